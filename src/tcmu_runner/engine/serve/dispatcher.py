"""RingDispatcher: fetches the commands of one ring, begins each, publishes the completions."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from tcmu_runner.clock import Clock
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.serve.fast_path import FastPath
from tcmu_runner.engine.serve.inflight import Completions, InFlight, Job
from tcmu_runner.engine.serve.late import Deadlines
from tcmu_runner.engine.serve.range_locks import RangeLocks
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.serve.transport import Transport
from tcmu_runner.engine.storage.executors import Executor
from tcmu_runner.engine.storage.perform import ABORTED
from tcmu_runner.errors import ExhaustedError
from tcmu_runner.handler.device import Device
from tcmu_runner.logs import COMMANDS
from tcmu_runner.ring.consumer import Consumer, RingReset, TaskManagement
from tcmu_runner.ring.layout import MailboxFlag, TmrType
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Plan
from tcmu_runner.scsi.unit import Unit

PUBLISH_EVERY = 8  # commands done on the ring's thread, so that initiators can go on while we do the rest
STALE_SECONDS = 1.0  # the shortest cmd_time_out: from then on the kernel may have ended a command
RELIEF_SECONDS = 1.0  # a handler that blocks the ring's thread for so long gets it for itself


class RingDispatcher:
    """Serves one ring from `start` to `stop`: the unit begins each command, the executor performs its storage
    operations.

    broken: called on the ring's thread when the ring cannot be served any longer; the thread then ends.
    nexus_of: called on the ring's thread with a command's id; returns the nexus over which it came. None
    behind LIO, which does not say: then there is one nexus, and LOGICAL UNIT RESET arrives on the ring. Other
    front ends reset their units themselves. clock: measures how long commands are under way.
    """

    def __init__(
        self,
        unit: Unit,
        device: Device,
        transport: Transport,
        consumer: Consumer,
        *,
        deadlines: Deadlines,
        statistics: Statistics,
        broken: Callable[[Exception], None],
        nexus_of: Callable[[int], Nexus] | None,
        clock: Clock,
    ) -> None:
        self._unit = unit
        self._device = device
        self._transport = transport
        self._consumer = consumer
        self._statistics = statistics
        self.broken = broken
        self.pending = consumer.pending
        self._deadlines = deadlines
        self._nexus_of = nexus_of
        self._now = clock.monotonic
        self._logs = device.log.logger.isEnabledFor
        self._only_nexus = next(iter(unit.nexuses), Nexus())
        self._range_locks = RangeLocks(unit.footprint)
        self.completions = Completions(consumer, transport.kick, statistics, self._ring_failed, clock)
        self.in_flight = InFlight(
            device, self.completions, self._range_locks, self.wake,
            can_tell_length=bool(consumer.flags & MailboxFlag.READ_LEN), statistics=statistics, clock=clock,
        )  # fmt: skip
        self._failure: Exception | None = None
        self._thread: RingThread | None = None  # None: the caller of `poll` is the ring's thread
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._left_over: deque[Job | TaskManagement] = deque()  # fetched, not begun: the next poll's first
        self.executor: Executor
        self._fast_path: FastPath | None = None

    def wake(self) -> None:
        """Has `poll` called again on the ring's thread. Any thread."""
        os.eventfd_write(self._wake_fd, 1)

    def start(self, executor: Executor, fast_path: FastPath | None, thread: RingThread | None) -> None:
        """thread: None if the caller is the ring's thread; it then calls `poll` whenever there are commands
        or `wake_fd` is readable, until `poll` returns False."""
        self.executor = executor
        self._fast_path = fast_path
        self._thread = thread
        if thread is not None:
            thread.join(self, self._transport.fileno(), self._wake_fd)

    @property
    def wake_fd(self) -> int:
        """An eventfd: readable when `poll` has to be called."""
        return self._wake_fd

    def drain(self, seconds: float) -> bool:
        """Waits until every fetched command is answered and the ring is empty; False after `seconds`."""
        self.in_flight.wait_for(lambda: self._consumer.idle or self._failure is not None, seconds)
        return self._consumer.idle

    def settle(self) -> None:
        """Waits until no command is under way, without a time limit."""
        if self._fast_path is not None:
            self._fast_path.finish()
        if self.executor.unfinished:
            self.executor.finish()
            self.completions.publish()
        self.in_flight.wait_for(lambda: not self.in_flight.under_way)

    def stop(self) -> None:
        """Leaves the thread; returns when the executor has no command. Commands on the ring stay there. Do
        not call on the ring's thread."""
        if self._thread is not None:
            self._thread.leave(self)
        self.settle()
        self.executor.close()
        os.close(self._wake_fd)

    def watch(self) -> None:
        """Call about every second. Handles late commands, and moves the ring to a new thread when a handler
        blocks the present one, so that the other commands go on."""
        self.in_flight.tell()
        self.in_flight.hold_since(self._now() - STALE_SECONDS)
        waiting = self.in_flight.waiting()
        oldest = min((command.began for command in waiting), default=None)
        self._statistics.gauge(self._consumer.outstanding, oldest)
        self._see_to_late(self._deadlines.check(waiting))
        since = self.executor.detector.busy_since
        if since is not None and self._thread is not None and self._now() - since > RELIEF_SECONDS:
            self._device.log.warning(
                "handler has blocked the ring thread for %.0f s: moved the ring to a new thread",
                RELIEF_SECONDS,
            )
            self.executor.detector.held_up(self._now())
            self._thread.relieve()

    def _see_to_late(self, late: set[Command]) -> None:
        if late:
            if self._deadlines.ending is not None:
                self.in_flight.withdraw(late.__contains__, self._deadlines.ending, self._begun)
                self.completions.publish()
            self._deadlines.expired()

    def busy(self) -> object:
        """Whether commands are on other threads, which need the interpreter lock."""
        return self.in_flight.under_way

    def _is_ring_thread(self) -> bool:
        """False on a thread from which `watch` has moved the ring away."""
        return self._thread is None or self._thread.is_mine()

    def poll(self) -> bool:
        """On the ring's thread: fetches and begins commands; False when there was nothing to do. Raises the
        error for `broken`."""
        try:
            batch = self._consumer.fetch_as(Job)
        except RingReset as error:
            self._failure = error
            self._recover()
            return True
        fast_path = self._fast_path
        if not (batch or self._left_over or (fast_path is not None and fast_path.queue)):
            return self._poll_without_new()
        if self._logs(COMMANDS):
            self._trace(batch)
        now, taken = self._now(), 0
        if fast_path is not None:
            if not (self._range_locks.active or self._left_over):
                taken = fast_path.take(batch, now)
            if fast_path.queue:
                self._left_over.extend(fast_path.work(self._is_ring_thread, now))
        if taken < len(batch) or self._left_over:
            self._start_rest(batch, taken, now)
        if self._range_locks.active:
            self._run_released()
        if self.executor.unfinished:
            self._go_on()
        return True

    def _poll_without_new(self) -> bool:
        """`poll` when no command has come."""
        if self._failure is not None:
            self._recover()
            return True
        if self._range_locks.active:
            self._run_released()
        return bool(self.executor.unfinished) and self._go_on()

    def _go_on(self) -> bool:
        """Does a part of a long command. True: call again at once. Without a thread of its own the ring calls
        `wake` instead, so that its caller can do other things in between."""
        self.executor.go_on()
        self.completions.publish()
        if self._thread is None:
            self.wake()
        return self._thread is not None

    def _trace(self, batch: list[Job | TaskManagement]) -> None:
        for entry in batch:
            self._device.log.log(COMMANDS, "%s", entry.cdb.hex(" ") if isinstance(entry, Job) else entry)

    def _start_rest(self, batch: list[Job | TaskManagement], at: int, now: float) -> None:
        alone = len(batch) == 1 and not (self.in_flight.under_way or self._left_over)
        while self._left_over:
            self._take(self._left_over.popleft(), now, alone=False)
        while at < len(batch) and self._is_ring_thread():
            for request in batch[at : at + PUBLISH_EVERY]:
                at += 1
                self._take(request, now, alone=alone)
            if at < len(batch):
                self.completions.publish()
        if at < len(batch):  # a thread that was relieved leaves what it has not begun to its successor
            self._left_over.extend(batch[at:])
            self.wake()
        if self.in_flight.under_way:  # else the executor holds nothing back
            self.executor.batch_done()
        self.completions.publish()

    def _take(self, request: Job | TaskManagement, now: float, *, alone: bool) -> None:
        if isinstance(request, TaskManagement):
            self._abort(request)
        else:
            self._start(request, now, alone=alone)

    def _abort(self, function: TaskManagement) -> None:
        """The initiator has aborted these commands: those that have not begun never do. The kernel waits
        until all have ended, and ignores their status."""
        given_up = set(function.ids)
        self.in_flight.withdraw(lambda command: command.id in given_up, ABORTED, self._begun)
        if function.type == TmrType.LUN_RESET and self._nexus_of is None:
            self._unit.reset(attention=None)  # LIO itself tells the initiators

    def _begun(self, command: Command) -> bool:
        return not self.executor.withdraw(command)

    def _start(self, command: Job, now: float, *, alone: bool) -> None:
        if command.withdrawn is not None:  # given back by the fast path
            self.in_flight.end(command, command.withdrawn)
            return
        command.began = now
        command.nexus = self._only_nexus if self._nexus_of is None else self._nexus_of(command.id)
        try:
            plan = self._unit.begin(command)
        except Exception as error:
            self.in_flight.end(command, error)
            return
        if plan is None:
            self.in_flight.end(command)
            return
        exclusive = command.row is not None and command.row.exclusive
        if (exclusive or self._range_locks.active) and not self._range_locks.admit(
            command, plan, self.in_flight.under_way, exclusive=exclusive
        ):
            return
        self._run_plan(command, plan, alone=alone)

    def _run_plan(self, command: Command, plan: Plan, *, alone: bool) -> None:
        self.in_flight.under_way.add(command)
        try:
            self.executor.submit(command, plan, alone=alone)
        except ExhaustedError:  # this process cannot serve it; `settle` must not wait for it
            self.in_flight.leave([command])
            raise

    def _run_released(self) -> None:
        """Commands that had to wait for others on their blocks."""
        parked = deque(self._range_locks.released(self.in_flight.under_way))
        try:
            while parked:
                first = parked.popleft()
                self._run_plan(first.command, first.plan, alone=False)
        except ExhaustedError:  # as in `_run_plan`
            self.in_flight.leave([each.command for each in parked])
            raise
        self.executor.batch_done()
        self.completions.publish()

    def _ring_failed(self, error: Exception) -> None:
        self._failure = error
        self.in_flight.stir()
        self.wake()

    def _recover(self) -> None:
        """Goes on after an administrator's reset_ring, once no command runs; raises any other failure."""
        if self._failure is not None and not isinstance(self._failure, RingReset):
            raise self._failure
        self._device.log.warning(
            "its ring was reset from outside; commands that were under way are forgotten"
        )
        self.settle()
        self._left_over.clear()
        self._range_locks.forget()
        self.completions.reset()
        self._failure = None  # not before: what ended since then has met the reset, too
