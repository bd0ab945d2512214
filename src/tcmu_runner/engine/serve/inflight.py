"""Commands in flight (begun and not ended), how each ends, and how completions get to the ring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tcmu_runner import iov
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.observe.command_log import FailureLog
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.serve.range_locks import RangeLocks
from tcmu_runner.errors import ExhaustedError
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.iov import Buffers
from tcmu_runner.ring.consumer import Consumer
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.sense import INTERNAL_TARGET_FAILURE, ScsiError, ScsiStatusError, SenseKey, Status

_FAULTS = {SenseKey.MEDIUM_ERROR, SenseKey.HARDWARE_ERROR}  # raised by a handler or filter

Ending = tuple[int, bytes]
GOOD: Ending = (Status.GOOD, b"")


# Commands, how they end, read_len, bytes of all their data. Several are of one opcode, were begun together,
# and have succeeded with all their data valid.
Completion = tuple[Sequence[Command], Ending, int, int]
Unwanted = Callable[[Command], bool]


class Job(Command):
    """One for each command on the ring. For speed it does not call its base's constructor, and gets its nexus
    only on the general path.

    id: of the ring's entry. offset, end (bytes), writes: set on the fast path.
    """

    __slots__ = ("end", "offset", "writes")

    offset: int
    end: int
    writes: bool

    def __init__(self, id_: int, cdb: bytes, data: Buffers, data_in: Sequence[memoryview]) -> None:
        self.id = id_
        self.cdb = cdb
        self.data = data
        self.data_in = data_in
        self.row = None
        self.returned = None
        self.descriptor_sense = False
        self.withdrawn = None
        self.began = 0.0


def valid_length(command: Command, total: int, *, can_tell: bool) -> int:
    """The read_len of a GOOD command; 0: all of its buffers. total: bytes of its buffers. can_tell: the ring
    has READ_LEN.

    Bytes that the command has not filled are zeroed: they may be an earlier command's. READ_LEN cannot
    express an empty answer (0 means all), so it is one zeroed byte; for data-out the kernel ignores it.
    """
    data = command.data
    returned = command.returned or 0
    if returned == total:
        return 0
    if not returned:
        data[0][:1] = b"\0"
        returned = 1
    if can_tell:
        return returned
    iov.zero(iov.cut(data, returned, total - returned))
    return 0


class CommandStatus:
    """Turns an exception of a command into status and sense, and logs what an administrator should know."""

    def __init__(self, device: Device, statistics: Statistics, clock: Clock) -> None:
        self._log = FailureLog(device, statistics, clock)
        self.tell = self._log.tell

    def ending(self, command: Command, error: BaseException, operation: Operation | None) -> Ending:
        """Status and encoded sense of a command that raised `error` during `operation`."""
        if isinstance(error, ExhaustedError):  # no thread for the command's background work
            error = OSError(error.errno, str(error))
        if isinstance(error, OSError):
            self._log.failed(command, operation, error)
            error = scsi_error(error, operation)
        elif isinstance(error, ScsiError) and operation is not None and error.sense.key in _FAULTS:
            self._log.refused(operation, error.sense)
        if isinstance(error, ScsiError):
            return Status.CHECK_CONDITION, error.sense.encode(descriptor=command.descriptor_sense)
        if isinstance(error, ScsiStatusError):
            return error.status, b""
        self._log.raised(command, error)
        sense = INTERNAL_TARGET_FAILURE.encode(descriptor=command.descriptor_sense)
        return Status.CHECK_CONDITION, sense


class EndWaiters:
    """Threads that wait until commands have ended. Call `notify` after each change that may end a wait; while
    `count` is 0 nobody waits, and the call can be left out."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self._clock = clock
        self._changed = threading.Condition()

    def wait_for(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Blocks until the condition holds; False if it does not after `seconds`, None: without a limit. It
        is evaluated once now, then on each `notify`."""
        with self._changed:
            self.count += 1  # before the first look: what changes after it calls `notify`
            try:
                return self._clock.wait_for(self._changed, condition, seconds)
            finally:
                self.count -= 1

    def notify(self) -> None:
        """Any thread."""
        with self._changed:
            self._changed.notify_all()


class Completions:
    """Sends completions. The doorbell runs the kernel's completion code, which copies all read data, so one
    doorbell is rung for all completions that are queued. A thread that finds another one publishing leaves
    its own completions to that one.
    """

    def __init__(
        self,
        consumer: Consumer,
        kick: Callable[[], None],
        statistics: Statistics,
        failed: Callable[[Exception], None],
        clock: Clock = MACHINE,
    ) -> None:
        self.waiters = EndWaiters(clock)  # for commands to leave `InFlight`, and the ring
        self._consumer = consumer
        self._kick = kick
        self._statistics = statistics
        self._failed = failed
        self._now = clock.monotonic
        self._waiting: deque[Completion] = deque()
        self.add = self._waiting.append  # any thread; `publish` sends what was added
        self._publishing = threading.Lock()

    def publish(self, now: float | None = None) -> None:
        """Sends the queued completions. Any thread. Errors of the ring go to `failed`, not to the caller.
        now: the clock's time, if the caller has just read it."""
        while self._waiting:
            if not self._publishing.acquire(False):
                return  # the publishing thread looks at the queue again after it has released the lock
            try:
                self._publish_gathered(self._now() if now is None else now)
                now = None
            except Exception as error:  # a corrupt or reset ring, a device that is gone
                self._failed(error)
                return
            finally:
                self._publishing.release()

    def _publish_gathered(self, now: float) -> None:
        consumer, waiting = self._consumer, self._waiting
        while waiting:
            commands, (status, sense), read_len, length = waiting.popleft()
            first = commands[0]
            seconds = now - first.began
            if seconds < 0:  # the command began and ended after `now` was taken
                seconds = 0.0
            self._statistics.record(first.cdb[0], length, seconds, status, sense, count=len(commands))
            if seconds >= self._statistics.slow_seconds:
                self._statistics.record_slow(first.cdb, length, seconds, status)
            if status or read_len:
                consumer.complete(first.id, status, sense, read_len)
            else:
                consumer.complete_well(commands)
        if consumer.publish():
            self._kick()
        if self.waiters.count:
            self.waiters.notify()

    def reset(self) -> None:
        """Call after action/reset_ring, when no command runs: starts over with an empty ring."""
        with self._publishing:
            self._waiting.clear()
            self._consumer.reset()
        self.waiters.notify()


class InFlight:
    """under_way: commands that have begun, and are neither parked nor finished. can_tell_length: the ring has
    READ_LEN. released: called on any thread when a parked command may run.

    A command stays in `under_way` until its completion is queued. So once it is empty after a reset of the
    ring, no completion with an old id can come, and ids can be used again.
    """

    def __init__(
        self,
        device: Device,
        completions: Completions,
        range_locks: RangeLocks,
        released: Callable[[], None],
        *,
        can_tell_length: bool,
        statistics: Statistics,
        clock: Clock = MACHINE,
    ) -> None:
        self.under_way: set[Command] = set()
        self._complete = completions.add
        self._waiters = completions.waiters
        self.wait_for = self._waiters.wait_for  # evaluated when commands have left `waiting` or the ring
        self.stir = self._waiters.notify  # has `wait_for` look at its conditions again
        self._range_locks = range_locks
        self._released = released
        self._can_tell_length = can_tell_length
        self._status = CommandStatus(device, statistics, clock)
        self.tell = self._status.tell  # call about every second: see FailureLog.tell

    def end(
        self, command: Command, error: BaseException | None = None, operation: Operation | None = None
    ) -> None:
        """A command has ended: well, or with the error that it raised, during an operation or without one.
        Its completion waits for `Completions.publish`. Any thread."""
        data = command.data
        length = len(data[0]) if len(data) == 1 else iov.length(data)
        if error is None:
            valid = valid_length(command, length, can_tell=self._can_tell_length)
            self.end_together([command], length, GOOD, valid)
        else:
            self.end_together([command], length, self._status.ending(command, error, operation))

    def end_together(
        self, commands: Sequence[Command], length: int, ending: Ending = GOOD, read_len: int = 0
    ) -> None:
        """`end` of commands of one opcode, begun together, with `length` bytes of data in sum: the one place
        where commands end. read_len: for a single command, from `valid_length`. Any thread."""
        self._complete((commands, ending, read_len, length))
        self.leave(commands)

    def leave(self, commands: Sequence[Command]) -> None:
        """These commands are not under way: they have ended, or will be begun anew on the general path. Any
        thread."""
        self.under_way.difference_update(commands)
        if self._range_locks.active:
            released = [self._range_locks.ended(each) for each in commands]
            if any(released):
                self._released()
        if self._waiters.count:
            self._waiters.notify()

    def waiting(self) -> list[Command]:
        """All commands that have come and not ended. Any thread."""
        parked = self._range_locks.waiting()  # before the others: a released one is under way at once
        return [*parked, *self.under_way.copy()]

    def hold_since(self, began_before: float) -> None:
        """Locks the blocks of slow writes, which their initiators may have given up: later commands on these
        blocks wait. Any thread."""
        for command in self.under_way.copy():
            row = command.row
            if command.began < began_before and row is not None and row.writes and row.blocks is not None:
                self._hold(command)

    def _hold(self, command: Command) -> None:
        if self._range_locks.hold(command, self.under_way):
            self._released()

    @contextmanager
    def visit(self, guest: Command) -> Iterator[None]:
        """While the context is open, `guest`, a command of another LUN (EXTENDED COPY), is under way on this
        LUN's blocks. First blocks until no command has them for itself. Any thread."""
        self.under_way.add(guest)
        try:
            self._range_locks.wait(guest)
            yield
        finally:
            self.leave([guest])

    def withdraw(self, unwanted: Unwanted, ending: Exception, begun: Callable[[Command], bool]) -> None:
        """Ends unwanted commands that have not begun with `ending`; does not publish. begun: whether a
        command has begun. Any thread."""
        for command in filter(unwanted, self.under_way.copy()):
            command.withdrawn = ending
            if not begun(command):
                self.end(command, ending)
            elif command.row is not None and command.row.writes:
                self._hold(command)
        for command in self._range_locks.drop(unwanted):
            self.end(command, ending)
