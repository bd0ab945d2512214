"""Executors: where a command's storage operations run."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sized
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Protocol

from tcmu_runner import iov
from tcmu_runner.aio import start_thread
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.blocking import BlockingDetector
from tcmu_runner.engine.storage.perform import (
    ABORTED,
    OperationError,
    Perform,
    PerformAsync,
    Progress,
    carry_out,
    carry_out_async,
)
from tcmu_runner.errors import ExhaustedError
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation, Plan, Read, Write

Finished = Callable[[Command, OperationError | None], None]  # adds the completion
Publish = Callable[[], None]
Job = tuple[Command, Plan]
Part = tuple[Command, Progress]

AT_ONCE = 4  # operations of one command, before others get their turn; each is a MiB, or little work

SMALL = 256 << 10  # bytes: more keeps the ring's thread from other commands for long


def check_wanted(command: Command) -> None:
    """Raises ABORTED where an abort ends a command between its operations: not where the operations are only
    right together, or go on whatever becomes of the command."""
    row = command.row
    if command.withdrawn is ABORTED and row is not None and not (row.exclusive or row.outlives):
        raise ABORTED


class Executor(Protocol):
    """`submit` and `batch_done` are called on the ring's thread, `close` when nothing runs any more.
    alone: no other command is under way. detector: of what runs on the ring's thread and may wait.

    A command that is marked as withdrawn does not begin; whoever marks it calls `withdraw`.

    unfinished: commands of many operations that go on with `go_on`, on the ring's thread, so that others get
    their turn between."""

    detector: BlockingDetector

    @property
    def unfinished(self) -> Sized: ...

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None: ...

    def batch_done(self) -> None: ...

    def go_on(self) -> None: ...

    def finish(self) -> None:
        """Does the rest of what is unfinished, when the ring's thread does nothing any more. Any thread."""

    def withdraw(self, command: Command) -> bool:
        """Whether it has not begun, never will, and is the caller's to end. Any thread."""

    def close(self) -> None: ...


class InlineExecutor:
    """Everything on the ring's thread: for handlers that never block. A command of many operations (WRITE
    SAME, VERIFY, UNMAP, FORMAT UNIT, EXTENDED COPY) gives way to others after each few of them."""

    def __init__(self, perform: Perform, finished: Finished, detector: BlockingDetector) -> None:
        self._perform = perform
        self._finished = finished
        self.detector = detector
        self.unfinished: deque[Part] = deque()

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        if isinstance(plan, Operation) or plan is None:
            self._carry_out(command, plan)
        else:
            self._advance((command, Progress(plan)))

    def go_on(self) -> None:
        """The oldest goes on, and then is the last to do so."""
        if self.unfinished:
            self._advance(self.unfinished.popleft())

    def finish(self) -> None:
        with suppress(IndexError):  # another thread may be faster
            while True:
                self._advance(self.unfinished.popleft())

    def _carry_out(self, command: Command, plan: Operation | None) -> None:
        try:
            carry_out(plan, self._perform)
        except OperationError as error:
            self._finished(command, error)
        else:
            self._finished(command, None)

    def _advance(self, part: Part) -> None:
        """Some operations more, then the end of the command or its place behind the others."""
        command, progress = part
        try:
            ended = progress.advance(self._performer(command), AT_ONCE)
        except OperationError as error:
            self._finished(command, error)
        else:
            if ended:
                self._finished(command, None)
            else:
                self._put_back(part)

    def _put_back(self, part: Part) -> None:
        self.unfinished.append(part)

    def _performer(self, command: Command) -> Perform:
        """For several operations: one that is aborted does not begin the next."""

        def perform(operation: Operation) -> None:
            check_wanted(command)
            self._perform(operation)

        return perform

    def batch_done(self) -> None:
        """Nothing is held back."""

    def withdraw(self, command: Command) -> bool:
        return False

    def close(self) -> None:
        """Nothing to end."""


class ThreadExecutor(InlineExecutor):
    """Whole commands on worker threads, or on the ring's thread as long as the storage answers at once.

    A hand-over to a thread costs several times what a read from the page cache does, and gains where the
    storage waits or where large copies overlap (docs/adr/0003). So small transfers, and a command that is
    alone, run on the ring's thread while the storage has been fast. That thread counts: with `threads` N
    there are N - 1 others; with 1 there is one other, and the ring's thread never calls the handler. With
    `apart` it never does, and there are N others.
    """

    def __init__(
        self,
        perform: Perform,
        finished: Finished,
        detector: BlockingDetector,
        publish: Publish,
        *,
        threads: int,
        name: str,
        apart: bool = False,
        clock: Clock = MACHINE,
    ) -> None:
        super().__init__(perform, finished, detector)
        self._publish = publish
        self._now = clock.monotonic
        self._jobs: SimpleQueue[Job | Part | None] = SimpleQueue()
        self._queued: set[Command] = set()  # who takes a command out is the one to do it, or to end it
        self._takes_part = threads > 1 and not apart
        self._name = name
        self._most = threads - 1 if self._takes_part else threads
        self._threads: list[threading.Thread] = []  # started with the first jobs: many LUNs never need them

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        now = self._now()
        if not self._suits_ring_thread(plan, now, alone=alone):
            self._put((command, plan))
            return
        self.detector.begin(now)
        super().submit(command, plan, alone=alone)
        self.detector.end(self._now(), iov.length(command.data))

    def _put_back(self, part: Part) -> None:
        """Behind the commands that wait for a thread: with a single one, it is the only one for all."""
        self._jobs.put(part)

    def _put(self, job: Job) -> None:
        """Raises ExhaustedError: no thread would take the job, and it is not queued."""
        if (number := len(self._threads)) < self._most:
            try:
                self._threads.append(start_thread(f"{self._name}-{number}", self._work))
            except ExhaustedError:
                if not self._threads:
                    raise
        self._queued.add(job[0])
        self._jobs.put(job)

    def _suits_ring_thread(self, plan: Plan, now: float, *, alone: bool) -> bool:
        if not (self._takes_part and isinstance(plan, Read | Write) and self.detector.at_once(now)):
            return False
        return alone or iov.length(plan.into if isinstance(plan, Read) else plan.data) <= SMALL

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            command, plan = job
            if isinstance(plan, Progress):
                self._advance((command, plan))
            elif self.withdraw(command):
                super().submit(command, plan, alone=False)
            self._publish()

    def withdraw(self, command: Command) -> bool:
        try:
            self._queued.remove(command)
        except KeyError:
            return False
        return True

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


class AsyncExecutor:
    """Commands as tasks of one asyncio loop, started in batches: one wake-up of the loop for each."""

    def __init__(
        self, perform: PerformAsync, finished: Finished, publish: Publish, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._perform = perform
        self._finished = finished
        self._publish = publish
        self._loop = loop
        self.detector = BlockingDetector()  # of nothing: the loop is another thread
        self.unfinished: Sized = ()  # each operation of a task gives way to others
        self._batch: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        self._batch.append((command, plan))

    def batch_done(self) -> None:
        if self._batch:
            self._loop.call_soon_threadsafe(self._start, self._batch)
            self._batch = []

    def go_on(self) -> None:
        """The loop does."""

    def finish(self) -> None:
        """The loop does."""

    def _start(self, batch: list[Job]) -> None:
        for command, plan in batch:
            if command.withdrawn is not None:
                self._finished(command, OperationError(command.withdrawn, None))
                continue
            task = self._loop.create_task(self._run(command, plan))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._publish()

    def withdraw(self, command: Command) -> bool:
        return False  # the loop ends it, if it sees the mark before it starts the command

    async def _run(self, command: Command, plan: Plan) -> None:
        try:
            await carry_out_async(plan, partial(self._perform_next, command))
        except OperationError as error:
            self._finished(command, error)
        else:
            self._finished(command, None)
        self._publish()

    async def _perform_next(self, command: Command, operation: Operation) -> None:
        check_wanted(command)
        await self._perform(operation)

    def close(self) -> None:
        """The loop belongs to the worker, not to one LUN."""
