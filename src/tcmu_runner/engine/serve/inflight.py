"""Commands in flight: which have begun and not ended, how each ends, and how completions get to the ring."""

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

_FAULTS = {SenseKey.MEDIUM_ERROR, SenseKey.HARDWARE_ERROR}  # of a storage that says so by itself

Ending = tuple[int, bytes]
GOOD: Ending = (Status.GOOD, b"")


# status, sense, read_len, bytes of all their data
Completion = tuple[Sequence[Command], int, bytes, int, int]
Unwanted = Callable[[Command], bool]


class Job(Command):
    """Made for each command on the ring, so it does not call its base, and has its nexus only when it takes
    the general way.

    id: as the ring's. offset, end (both in bytes), writes: of one that goes the fast path.
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
    """The read_len of a GOOD command: 0 when its buffers are valid whole. total: bytes of them. can_tell: the
    ring has READ_LEN.

    Buffers are never handed on with what an earlier command left in them. An empty answer cannot be
    expressed (0 means all), so one zeroed byte is returned; for data-out the other side ignores it.
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
    """Turns what a command raised into its ending, and tells the log what a person should know."""

    def __init__(self, device: Device, statistics: Statistics, clock: Clock) -> None:
        self._log = FailureLog(device, statistics, clock)
        self.tell = self._log.tell

    def ending(self, command: Command, error: BaseException, operation: Operation | None) -> Ending:
        """Status and encoded sense of a command that raised `error` during `operation`."""
        if isinstance(error, ExhaustedError):  # of work in the background that the command wants to begin
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


class Completions:
    """The doorbell runs the other side's completion code, which copies all read data, so one is rung for as
    many completions as have gathered; a thread that finds another one ringing leaves its own to that one.
    """

    def __init__(
        self,
        consumer: Consumer,
        kick: Callable[[], None],
        statistics: Statistics,
        failed: Callable[[Exception], None],
        clock: Clock = MACHINE,
    ) -> None:
        self._consumer = consumer
        self._kick = kick
        self._statistics = statistics
        self._failed = failed
        self._now = clock.monotonic
        self._waiting: deque[Completion] = deque()
        self._publishing = threading.Lock()

    def add(self, commands: Sequence[Command], ending: Ending, length: int, read_len: int) -> None:
        """Queues completions; `publish` sends them. Any thread. length: bytes of all their data. Several are
        of one opcode and one beginning, and have ended in GOOD with all their data valid."""
        self._waiting.append((commands, ending[0], ending[1], read_len, length))

    def publish(self) -> None:
        """Sends what has gathered. Any thread. Ring errors go to `failed`, not to the caller."""
        while self._waiting:
            if not self._publishing.acquire(False):
                return  # the thread inside looks at the queue again after it has let go
            try:
                self._publish_gathered()
            except Exception as error:  # a corrupt or reset ring, a device that is gone
                self._failed(error)
                return
            finally:
                self._publishing.release()

    def _publish_gathered(self) -> None:
        consumer, waiting, now = self._consumer, self._waiting, self._now()
        while waiting:
            commands, status, sense, read_len, length = waiting.popleft()
            first = commands[0]
            if status or read_len:
                consumer.complete(first.id, status, sense, read_len)
            else:
                consumer.complete_well(commands)
            seconds = now - first.began
            if seconds < 0:  # it has begun, and ended, after `now`
                seconds = 0.0
            self._statistics.record(first.cdb[0], length, seconds, status, sense, count=len(commands))
            if seconds >= self._statistics.slow_seconds:
                self._statistics.record_slow(first.cdb, length, seconds, status)
        if consumer.publish():
            self._kick()

    def reset(self) -> None:
        """After action/reset_ring, when no command runs any more: start over with the ring."""
        with self._publishing:
            self._waiting.clear()
            self._consumer.reset()


class InFlight:
    """under_way: commands that have begun, and are neither parked nor finished. can_tell_length: the ring has
    READ_LEN. released: called when a parked command may run.

    A command stays in `under_way` until its completion is queued. So when that is empty, no completion of
    before a reset of the ring can come any more: ids are used again.
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
        self._completions = completions
        self._range_locks = range_locks
        self._released = released
        self._can_tell_length = can_tell_length
        self._status = CommandStatus(device, statistics, clock)
        self.tell = self._status.tell  # to be called about every second: see FailureLog.tell

    def end(
        self, command: Command, error: BaseException | None = None, operation: Operation | None = None
    ) -> None:
        """A command has ended: well, or in what it raised, during an operation or without any. Its completion
        waits for `Completions.publish`. Any thread."""
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
        """`end` of commands of one opcode and one beginning, with `length` bytes of data together: the one
        place where commands end. read_len: as `valid_length` says of a single one. Any thread."""
        self._completions.add(commands, ending, length, read_len)
        self.leave(commands)

    def leave(self, commands: Sequence[Command]) -> None:
        """These are not under way now: they have ended, or will be started anew. Any thread."""
        self.under_way.difference_update(commands)
        if self._range_locks.active:
            released = [self._range_locks.ended(each) for each in commands]
            if any(released):
                self._released()

    def waiting(self) -> list[Command]:
        """All that have come and not ended. Any thread."""
        return [*self.under_way.copy(), *self._range_locks.waiting()]

    def hold_since(self, began_before: float) -> None:
        """Writes that take so long that their initiator may have given them up. Any thread."""
        for command in self.under_way.copy():
            row = command.row
            if command.began < began_before and row is not None and row.writes and row.blocks is not None:
                self._hold(command)

    def _hold(self, command: Command) -> None:
        if self._range_locks.hold(command, self.under_way):
            self._released()

    @contextmanager
    def visit(self, guest: Command) -> Iterator[None]:
        """While a command of another LUN does what `guest` says to this one's blocks. Blocks as long as they
        are another command's alone. Any thread."""
        self.under_way.add(guest)
        try:
            self._range_locks.wait(guest)
            yield
        finally:
            self.leave([guest])

    def withdraw(self, unwanted: Unwanted, ending: Exception, begun: Callable[[Command], bool]) -> None:
        """Commands that have not begun never do, and end in this. begun: whether it is too late for one; any
        thread; not published."""
        for command in filter(unwanted, self.under_way.copy()):
            command.withdrawn = ending
            if not begun(command):
                self.end(command, ending)
            elif command.row is not None and command.row.writes:
                self._hold(command)
        for command in self._range_locks.drop(unwanted):
            self.end(command, ending)
