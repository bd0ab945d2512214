"""The thread on a ring: waits, fetches all there is, starts every command, publishes what has finished."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tcmu_runner.engine.completer import Completer
from tcmu_runner.engine.deadlines import Deadlines
from tcmu_runner.engine.exclusion import Exclusion, RangeOf
from tcmu_runner.engine.execution import Executor
from tcmu_runner.engine.outcome import GOOD, Verdict, valid_length
from tcmu_runner.engine.pace import Pace
from tcmu_runner.engine.statistics import Statistics
from tcmu_runner.engine.storage import ABORTED, OperationError
from tcmu_runner.engine.straight import StraightPath
from tcmu_runner.engine.transport import Transport, TransportGoneError
from tcmu_runner.handler.device import Device
from tcmu_runner.logs import COMMANDS
from tcmu_runner.ring.consumer import Consumer, Request, RingReset, TaskManagement
from tcmu_runner.ring.layout import MailboxFlag, TmrType
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Plan

EVENTS = select.EPOLLIN | select.EPOLLET
PUBLISH_EVERY = 8  # commands done on the ring's thread, so that the initiator goes on while we do the rest
LARGE = 32 << 10  # bytes: from here on copying takes longer than all else about a command
LARGE_READ = 4  # commands that one counts for: the doorbell copies what was read, and the initiator waits
POLL_SECONDS = 0.005
# Other machines may show the head before the entry: there, only a wake-up orders the two (tcmu-abi 8.24).
LOOKOUT_SECONDS = 0.5e-3 if os.uname().machine in {"x86_64", "i386", "i686"} else 0.0
RELIEF_SECONDS = 1.0  # a storage that holds up the ring's thread so long serves the rest from other threads


@dataclass(frozen=True, slots=True)
class Duties:
    """What a pump does with the commands of its ring.

    begin: decodes and checks one. nexus_of: over which nexus the command with this id came; the ring does not
    say. range_of: the bytes a command may touch. deadlines: when one is late. broken: told, on
    the ring's thread, which ends, when the ring cannot be served any more. reset: called on the ring's thread
    for a logical unit reset.
    """

    begin: Callable[[Command], Plan]
    nexus_of: Callable[[int], Nexus]
    range_of: RangeOf
    deadlines: Deadlines
    statistics: Statistics
    broken: Callable[[Exception], None]
    reset: Callable[[], None]


class Pump:
    """Serves one ring from `start` to `stop`."""

    def __init__(self, device: Device, transport: Transport, consumer: Consumer, duties: Duties) -> None:
        self._device = device
        self._transport = transport
        self._consumer = consumer
        self._begin = duties.begin
        self._statistics = duties.statistics
        self._broken = duties.broken
        self._reset = duties.reset
        self._exclusion = Exclusion(duties.range_of)
        self._deadlines = duties.deadlines
        self._under_way: set[Command] = set()  # started, and neither parked nor finished
        self._nexus_of = duties.nexus_of
        self._verdict = Verdict(device)
        self._can_tell_length = bool(consumer.flags & MailboxFlag.READ_LEN)
        self._completer = Completer(consumer, transport.kick, duties.statistics, self._ring_failed)
        self._failure: Exception | None = None
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._left_over: deque[Request] = deque()  # fetched by a ring's thread that was relieved
        self._thread = self._new_thread()
        self.executor: Executor
        self._straight: StraightPath | None = None
        self._plain: deque[tuple[Command, int]] = deque()  # plain commands and their offsets
        self._helped = False  # another thread does them, too

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name=f"ring {self._device.name}", daemon=True)

    def start(
        self, executor: Executor, straight: StraightPath | None = None, *, driven: bool = False
    ) -> None:
        """Begins with whatever is on the ring already: that makes no descriptor readable.

        driven: there is no thread of ours, the caller's is the ring's thread; it calls `turn` as long as that
        has something to do, whenever there are commands or `wake` is readable.
        """
        self.executor = executor
        self._straight = straight
        if not driven:
            self._thread.start()

    @property
    def wake(self) -> int:
        """An eventfd: readable when something has to be done on the ring's thread."""
        return self._wake

    def finished(self, command: Command, error: OperationError | None) -> None:
        """Called by executors, on any thread, when a command's plan has ended."""
        self._under_way.discard(command)
        if error is None:
            length = valid_length(command, can_tell=self._can_tell_length)
            self._completer.add(command, GOOD, length)
        else:
            ending = self._verdict.ending(command, error.error, error.operation)
            self._completer.add(command, ending, 0)
        if self._exclusion.active and self._exclusion.ended(command):
            os.eventfd_write(self._wake, 1)

    def publish(self) -> None:
        self._completer.publish()

    def drain(self, seconds: float) -> bool:
        """Waits until every fetched command is answered and the ring is empty; False when time is up."""
        deadline = time.monotonic() + seconds
        while not self._consumer.idle:
            if self._failure is not None or time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def settle(self) -> None:
        """Waits until no command is under way any more, however long that takes."""
        if self._straight is not None:
            self._do_plain(self._straight)
        while self._under_way:
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ends the thread, and returns when no command is with the executor any more; commands still on the
        ring stay there. Not to be called from the ring's thread."""
        self._stopping = True
        if self._thread.ident is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
        self.settle()
        self.executor.close()
        os.close(self._wake)

    def watch(self) -> None:
        """To be called about every second: sees to late commands, and relieves a ring's thread that a storage
        holds up, so that the other commands go on."""
        waiting = [*self._under_way.copy(), *self._exclusion.waiting()]
        oldest = min((command.began for command in waiting), default=None)
        self._statistics.gauge(self._consumer.outstanding, oldest)
        self._see_to_late(self._deadlines.check(waiting))
        since = self.executor.pace.busy_since
        if since is not None and time.monotonic() - since > RELIEF_SECONDS and not self._stopping:
            self._device.log.warning("its storage holds up a command; the others go on beside it")
            self.executor.pace.busy_since = None
            self._thread = self._new_thread()
            self._thread.start()

    def _see_to_late(self, late: set[Command]) -> None:
        if late:
            if self._deadlines.ending is not None:
                self._withdraw(late.__contains__, self._deadlines.ending)
                self._completer.publish()
            self._deadlines.expired()

    def _run(self) -> None:
        try:
            with select.epoll() as poller:
                self._serve(poller)
        except Exception as error:  # a corrupt ring; whatever it is, the LUN cannot go on by itself
            self._broken(error)

    def _serve(self, poller: select.epoll) -> None:
        # Edge-triggered: each doorbell of the kernel wakes us once, and no read() is needed to re-arm it.
        poller.register(self._transport.fileno(), EVENTS)
        poller.register(self._wake, EVENTS)
        busy = False
        while not self._stopping and self._is_ring_thread():
            if self.turn():
                busy = True
            elif not busy or not self._more_comes():
                busy = False
                self._wait(poller)

    def _more_comes(self) -> bool:
        """Looks out for the next command for a moment before sleeping: to be woken takes longer than the
        command itself. Only after some were served, so that an idle LUN costs nothing, and not while threads
        of ours need the interpreter."""
        deadline = time.monotonic() + LOOKOUT_SECONDS
        while not self._under_way and time.monotonic() < deadline:
            if self._consumer.pending():
                return True
        return False

    def _is_ring_thread(self) -> bool:
        """Not any more after `watch` has relieved this thread."""
        return self._thread.ident in (None, threading.get_ident())

    def turn(self) -> bool:
        """Does on the ring's thread what there is to do; False when there was nothing. Raises what `broken`
        is told elsewhere."""
        try:
            batch = self._consumer.fetch()
        except RingReset as error:
            self._failure = error
        else:
            if batch or self._left_over or self._plain:
                self._start_all(batch)
                return True
        if self._failure is not None:
            self._recover()
            return True
        if self._exclusion.active:
            self._run_released()
        return False

    def _wait(self, poller: select.epoll) -> None:
        if self._hung_up(poller.poll()):
            raise TransportGoneError

    def _hung_up(self, events: list[tuple[int, int]]) -> bool:
        """The kernel has removed the device while events were blocked, or will never tell us more."""
        return any(mask & select.EPOLLHUP for fd, mask in events if fd != self._wake)

    def _trace(self, batch: list[Request | TaskManagement]) -> None:
        for request in batch:
            self._device.log.log(
                COMMANDS, "%s", request.cdb.hex(" ") if isinstance(request, Request) else request
            )

    def _start_all(self, batch: list[Request | TaskManagement]) -> None:
        if self._device.log.isEnabledFor(COMMANDS):
            self._trace(batch)
        alone = self._consumer.outstanding == 1
        now = time.monotonic()
        while self._left_over:
            self._start(self._command(self._left_over.popleft(), now), alone=False)
        if self._straight is not None and self._plain:
            self._do_plain(self._straight, self.executor.pace)  # of a ring's thread that was relieved
        at = self._go_straight(batch, now)
        while at < len(batch) and self._is_ring_thread():
            for request in batch[at : at + PUBLISH_EVERY]:
                at += 1
                if isinstance(request, Request):
                    self._start(self._command(request, now), alone=alone)
                else:
                    self._abort(request)
            self._completer.publish()
        self._leave_over(batch[at:])
        self.executor.batch_done()
        self._completer.publish()

    def _go_straight(self, batch: list[Request | TaskManagement], now: float) -> int:
        """Does the plain commands, from the first on: so many."""
        straight, run, large_reads = self._straight, self._plain, 0
        if straight is None or self._exclusion.active or not straight.open(now):
            return 0
        at = 0
        for request in batch:
            if not isinstance(request, Request):
                break
            command = self._command(request, now)
            offset = straight.offset(command)
            if offset is None:
                break
            self._under_way.add(command)
            run.append((command, offset))
            large_reads += _is_large_read(command)
            at += 1
        if large_reads > 1 and not self._helped:
            self._helped = self.executor.lend(self._help)
        self._do_plain(straight, self.executor.pace)
        return at

    def _do_plain(self, straight: StraightPath, pace: Pace | None = None) -> None:
        """Does the plain commands until none is left; any thread, also several at once.

        pace: of the ring's thread, which lets go of the rest when it has been relieved.
        """
        run, count = self._plain, 0
        done: dict[int, list[Command]] = {}  # by opcode
        while run:
            try:
                command, offset = run.popleft()
            except IndexError:  # another thread was faster
                break
            try:
                straight.do(command, offset, pace)
            except OperationError as error:
                self.finished(command, error)
            else:
                done.setdefault(command.cdb[0], []).append(command)
            count += LARGE_READ if _is_large_read(command) else 1
            if count >= PUBLISH_EVERY:
                self._end_well(done)
                done, count = {}, 0
                if pace is not None and not self._is_ring_thread():
                    break
        self._end_well(done)

    def _help(self) -> None:
        """On another thread than the ring's: one fills the ring while the other's doorbell empties it. For
        large reads only; a write is copied once on our side, and two threads get in each other's way."""
        assert self._straight is not None
        try:
            self._do_plain(self._straight)
        finally:
            self._helped = False

    def _end_well(self, done: dict[int, list[Command]]) -> None:
        """For commands that went straight."""
        for commands in done.values():
            self._under_way.difference_update(commands)
            self._completer.add_good(commands)
            if self._exclusion.active:  # one has taken so long that another thread is the ring's now
                released = [self._exclusion.ended(command) for command in commands]
                if any(released):
                    os.eventfd_write(self._wake, 1)
        self._completer.publish()

    def _abort(self, function: TaskManagement) -> None:
        """Commands that the initiator has given up do not begin any more. They all have to end, the kernel
        waits for that; with which status, it does not care."""
        given_up = set(function.ids)

        def unwanted(command: Command) -> bool:
            return command.id & 0xFFFF in given_up

        self._withdraw(unwanted, ABORTED)
        if function.type == TmrType.LUN_RESET:
            self._reset()

    def _withdraw(self, unwanted: Callable[[Command], bool], ending: Exception) -> None:
        """Commands that have not begun never do, and end in this. Any thread; not published."""
        for command in filter(unwanted, list(self._under_way)):
            command.withdrawn = ending
            if self.executor.withdraw(command):
                self.finished(command, OperationError(ending, None))
        for command in self._exclusion.drop(unwanted):
            self.finished(command, OperationError(ending, None))

    def _leave_over(self, rest: list[Request | TaskManagement]) -> None:
        """A thread that was relieved leaves what it has not begun to its successor."""
        if rest:
            self._left_over.extend(request for request in rest if isinstance(request, Request))
            os.eventfd_write(self._wake, 1)

    def _command(self, request: Request, now: float) -> Command:
        token = self._consumer.generation << 16 | request.id
        command = Command(request.cdb, request.data, self._nexus_of(request.id), token, request.data_in)
        command.began = now
        return command

    def _start(self, command: Command, *, alone: bool) -> None:
        try:
            plan = self._begin(command)
        except Exception as error:
            self.finished(command, OperationError(error, None))
            return
        if plan is None:
            self.finished(command, None)
            return
        exclusive = command.row is not None and command.row.exclusive
        if (exclusive or self._exclusion.active) and not self._exclusion.admit(
            command, plan, list(self._under_way), exclusive=exclusive
        ):
            return
        self._run_plan(command, plan, alone=alone)

    def _run_plan(self, command: Command, plan: Plan, *, alone: bool) -> None:
        self._under_way.add(command)
        self.executor.submit(command, plan, alone=alone)

    def _run_released(self) -> None:
        """Commands that had to wait for others on their blocks."""
        for parked in self._exclusion.released():
            self._run_plan(parked.command, parked.plan, alone=False)
        self.executor.batch_done()
        self._completer.publish()

    def _ring_failed(self, error: Exception) -> None:
        self._failure = error
        os.eventfd_write(self._wake, 1)

    def _recover(self) -> None:
        """An administrator's reset_ring is survived once nothing runs any more; all else is not."""
        if self._failure is not None and not isinstance(self._failure, RingReset):
            raise self._failure
        self._device.log.warning(
            "its ring was reset from outside; commands that were under way are forgotten"
        )
        self.settle()
        self._left_over.clear()
        self._exclusion.forget()
        self._completer.reset()
        self._failure = None  # not before: what ended since then has met the reset, too


def _is_large_read(command: Command) -> bool:
    row = command.row
    return row is not None and not row.writes and len(command.data[0]) >= LARGE
