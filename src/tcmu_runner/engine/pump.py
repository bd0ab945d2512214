"""What is done on a ring: fetches all there is, starts every command, publishes what has finished."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tcmu_runner.engine.completer import Completer
from tcmu_runner.engine.deadlines import Deadlines
from tcmu_runner.engine.exclusion import Exclusion, RangeOf
from tcmu_runner.engine.execution import Executor, Finished
from tcmu_runner.engine.job import Job
from tcmu_runner.engine.ledger import Ledger
from tcmu_runner.engine.ring_thread import RingThread
from tcmu_runner.engine.statistics import Statistics
from tcmu_runner.engine.storage import ABORTED, OperationError
from tcmu_runner.engine.straight import StraightPath
from tcmu_runner.engine.transport import Transport
from tcmu_runner.handler.device import Device
from tcmu_runner.logs import COMMANDS
from tcmu_runner.ring.consumer import Consumer, RingReset, TaskManagement
from tcmu_runner.ring.layout import MailboxFlag, TmrType
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Plan

PUBLISH_EVERY = 8  # commands done on the ring's thread, so that the initiator goes on while we do the rest
POLL_SECONDS = 0.005
STALE_SECONDS = 1.0  # the shortest time after which the kernel ends a command that we have not (cmd_time_out)
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
        self.broken = duties.broken
        self.pending = consumer.pending
        self._reset = duties.reset
        self._deadlines = duties.deadlines
        self._nexus_of = duties.nexus_of
        self._exclusion = Exclusion(duties.range_of)
        self.completer = Completer(consumer, transport.kick, duties.statistics, self._ring_failed)
        self.ledger = Ledger(
            device, self.completer, self._exclusion, self.rouse,
            can_tell_length=bool(consumer.flags & MailboxFlag.READ_LEN),
        )  # fmt: skip
        self._failure: Exception | None = None
        self._thread: RingThread | None = None  # None: the caller's own
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._left_over: deque[Job | TaskManagement] = deque()  # fetched, and to be started first
        self.executor: Executor
        self._straight: StraightPath | None = None

    def rouse(self) -> None:
        """Something has to be done on the ring's thread. Any thread."""
        os.eventfd_write(self._wake, 1)

    def start(self, executor: Executor, straight: StraightPath | None, thread: RingThread | None) -> None:
        """thread: None where the caller's is the ring's thread; it calls `turn` as long as that has something
        to do, whenever there are commands or `wake` is readable.
        """
        self.executor = executor
        self._straight = straight
        self._thread = thread
        if thread is not None:
            thread.join(self, self._transport.fileno(), self._wake)

    @property
    def wake(self) -> int:
        """An eventfd: readable when something has to be done on the ring's thread."""
        return self._wake

    @property
    def finished(self) -> Finished:
        """What executors call, on any thread, when a command's plan has ended."""
        return self.ledger.finished

    def publish(self) -> None:
        self.completer.publish()

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
            self._straight.finish()
        while self.ledger.under_way:
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Leaves the thread, and returns when no command is with the executor any more; commands still on the
        ring stay there. Not to be called from the ring's thread."""
        if self._thread is not None:
            self._thread.leave(self)
        self.settle()
        self.executor.close()
        os.close(self._wake)

    def watch(self) -> None:
        """To be called about every second: sees to late commands, and relieves a ring's thread that a storage
        holds up, so that the other commands go on."""
        self.ledger.hold_since(time.monotonic() - STALE_SECONDS)
        waiting = self.ledger.waiting()
        oldest = min((command.began for command in waiting), default=None)
        self._statistics.gauge(self._consumer.outstanding, oldest)
        self._see_to_late(self._deadlines.check(waiting))
        since = self.executor.pace.busy_since
        if since is not None and self._thread is not None and time.monotonic() - since > RELIEF_SECONDS:
            self._device.log.warning("its storage holds up a command; the others go on beside it")
            self.executor.pace.held_up(time.monotonic())
            self._thread.relieve()

    def _see_to_late(self, late: set[Command]) -> None:
        if late:
            if self._deadlines.ending is not None:
                self.ledger.withdraw(late.__contains__, self._deadlines.ending, self._begun)
                self.completer.publish()
            self._deadlines.expired()

    def occupied(self) -> object:
        """Threads of ours need the interpreter."""
        return self.ledger.under_way

    def _is_ring_thread(self) -> bool:
        """Not any more after `watch` has relieved this thread."""
        return self._thread is None or self._thread.is_mine()

    def turn(self) -> bool:
        """Does on the ring's thread what there is to do; False when there was nothing. Raises what `broken`
        is told elsewhere."""
        try:
            batch = self._consumer.fetch_as(Job)
        except RingReset as error:
            self._failure = error
        else:
            if batch or self._left_over or (self._straight is not None and self._straight.queue):
                self._start_all(batch)
                return True
        if self._failure is not None:
            self._recover()
            return True
        if self._exclusion.active:
            self._run_released()
        return False

    def _trace(self, batch: list[Job | TaskManagement]) -> None:
        for entry in batch:
            self._device.log.log(COMMANDS, "%s", entry.cdb.hex(" ") if isinstance(entry, Job) else entry)

    def _start_all(self, batch: list[Job | TaskManagement]) -> None:
        if self._device.log.isEnabledFor(COMMANDS):
            self._trace(batch)
        now = time.monotonic()
        at = self._go_straight(self._straight, batch, now) if self._straight is not None else 0
        if at < len(batch) or self._left_over:
            self._start_rest(batch, at, now)

    def _go_straight(self, straight: StraightPath, batch: list[Job | TaskManagement], now: float) -> int:
        """Does the plain commands, from the first on: so many. Where the storage turns out to wait, the rest
        of them go the general way."""
        at = 0 if self._exclusion.active or self._left_over else straight.take(batch, now)
        straight.work(self._is_ring_thread)
        if straight.queue and self._is_ring_thread():
            self._left_over.extend(straight.give_back())
        return at

    def _start_rest(self, batch: list[Job | TaskManagement], at: int, now: float) -> None:
        alone = self._consumer.outstanding == 1
        while self._left_over:
            self._take(self._left_over.popleft(), now, alone=False)
        while at < len(batch) and self._is_ring_thread():
            for request in batch[at : at + PUBLISH_EVERY]:
                at += 1
                self._take(request, now, alone=alone)
            self.completer.publish()
        self._leave_over(batch[at:])
        self.executor.batch_done()
        self.completer.publish()

    def _take(self, request: Job | TaskManagement, now: float, *, alone: bool) -> None:
        if isinstance(request, TaskManagement):
            self._abort(request)
        else:
            self._start(request, now, alone=alone)

    def _abort(self, function: TaskManagement) -> None:
        """Commands that the initiator has given up do not begin any more. They all have to end, the kernel
        waits for that; with which status, it does not care."""
        given_up = set(function.ids)

        def unwanted(command: Command) -> bool:
            return command.id in given_up

        self.ledger.withdraw(unwanted, ABORTED, self._begun)
        if function.type == TmrType.LUN_RESET:
            self._reset()

    def _begun(self, command: Command) -> bool:
        return not self.executor.withdraw(command)

    def _leave_over(self, rest: list[Job | TaskManagement]) -> None:
        """A thread that was relieved leaves what it has not begun to its successor."""
        if rest:
            self._left_over.extend(rest)
            self.rouse()

    def _start(self, command: Job, now: float, *, alone: bool) -> None:
        if command.withdrawn is not None:  # given back by the straight path
            self.ledger.finished(command, OperationError(command.withdrawn, None))
            return
        command.began = now
        command.nexus = self._nexus_of(command.id)
        try:
            plan = self._begin(command)
        except Exception as error:
            self.ledger.finished(command, OperationError(error, None))
            return
        if plan is None:
            self.ledger.finished(command, None)
            return
        exclusive = command.row is not None and command.row.exclusive
        if (exclusive or self._exclusion.active) and not self._exclusion.admit(
            command, plan, self.ledger.under_way, exclusive=exclusive
        ):
            return
        self._run_plan(command, plan, alone=alone)

    def _run_plan(self, command: Command, plan: Plan, *, alone: bool) -> None:
        self.ledger.under_way.add(command)
        self.executor.submit(command, plan, alone=alone)

    def _run_released(self) -> None:
        """Commands that had to wait for others on their blocks."""
        for parked in self._exclusion.released():
            self._run_plan(parked.command, parked.plan, alone=False)
        self.executor.batch_done()
        self.completer.publish()

    def _ring_failed(self, error: Exception) -> None:
        self._failure = error
        self.rouse()

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
        self.completer.reset()
        self._failure = None  # not before: what ended since then has met the reset, too
