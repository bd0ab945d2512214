"""Executors: run commands' storage operations, on one kind of thread each."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sized
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Protocol

from tcmu_runner import iov
from tcmu_runner.aio import start_thread
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

Finished = Callable[[Command, OperationError | None], None]  # called when a plan has ended; any thread
Publish = Callable[[], None]
Job = tuple[Command, Plan]
Part = tuple[Command, Progress]

AT_ONCE = 4  # operations of one command before others get a turn; each is a MiB at most, or little work

SMALL = 256 << 10  # bytes: a larger transfer would keep the ring's thread from other commands


def check_wanted(command: Command) -> None:
    """Raises ABORTED if the command was aborted; not for a command that has to be done whole (exclusive), or
    that goes on without its initiator (outlives)."""
    row = command.row
    if command.withdrawn is ABORTED and row is not None and not (row.exclusive or row.outlives):
        raise ABORTED


class Executor(Protocol):
    """`submit` and `batch_done` are called on the ring's thread, `close` when nothing runs. alone: no other
    command is under way. detector: of storage calls on the ring's thread.

    A command marked as withdrawn does not begin; the thread that marks it calls `withdraw`.

    unfinished: commands of many operations; the ring's thread continues them with `go_on`, so that others get
    a turn in between."""

    detector: BlockingDetector

    @property
    def unfinished(self) -> Sized: ...

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None: ...

    def batch_done(self) -> None: ...

    def go_on(self) -> None: ...

    def finish(self) -> None:
        """Ends what is unfinished, after the ring's thread has stopped. Any thread."""

    def withdraw(self, command: Command) -> bool:
        """True: it has not begun and never will; the caller ends it. Any thread."""

    def close(self) -> None: ...


class InlineExecutor:
    """Runs all on the ring's thread, for handlers that never block. A command of many operations (WRITE SAME,
    VERIFY, UNMAP, FORMAT UNIT, EXTENDED COPY) lets others run after each AT_ONCE operations."""

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
        """Continues the oldest unfinished command, which then goes to the end of the queue."""
        if self.unfinished:
            self._advance(self.unfinished.popleft())

    def finish(self) -> None:
        with suppress(IndexError):  # another thread took it
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
        """Does some more operations, then ends the command or puts it back."""
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
        """Performs one of several operations, unless the command was aborted before it."""

        def perform(operation: Operation) -> None:
            check_wanted(command)
            self._perform(operation)

        return perform

    def batch_done(self) -> None:
        """Nothing to do: no command is held back."""

    def withdraw(self, command: Command) -> bool:
        return False

    def close(self) -> None:
        """Nothing to do."""


class ThreadExecutor(InlineExecutor):
    """Runs whole commands on worker threads, or on the ring's thread as long as the storage does not block.

    A hand-over to a thread takes several times as long as a read from the page cache; it pays where the
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
    ) -> None:
        super().__init__(perform, finished, detector)
        self._publish = publish
        self._jobs: SimpleQueue[Job | Part | None] = SimpleQueue()
        self._queued: set[Command] = set()  # the thread that removes a command does or ends it
        self._takes_part = threads > 1 and not apart
        self._name = name
        self._most = threads - 1 if self._takes_part else threads
        self._threads: list[threading.Thread] = []  # started with the first jobs: many LUNs never need any

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        now = time.monotonic()
        if not self._suits_ring_thread(plan, now, alone=alone):
            self._put((command, plan))
            return
        self.detector.begin(now)
        super().submit(command, plan, alone=alone)
        self.detector.end(time.monotonic(), iov.length(command.data))

    def _put_back(self, part: Part) -> None:
        """Queues it behind commands that wait for a thread: there may be only one thread for all."""
        self._jobs.put(part)

    def _put(self, job: Job) -> None:
        """Raises ExhaustedError if no thread can take the job; it is not queued then."""
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
    """Runs commands as tasks of one asyncio loop, started in batches: one wake-up of the loop for each."""

    def __init__(
        self, perform: PerformAsync, finished: Finished, publish: Publish, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._perform = perform
        self._finished = finished
        self._publish = publish
        self._loop = loop
        self.detector = BlockingDetector()  # unused: no operation runs on the ring's thread
        self.unfinished: Sized = ()  # always empty: tasks give way to each other at each operation
        self._batch: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        self._batch.append((command, plan))

    def batch_done(self) -> None:
        if self._batch:
            self._loop.call_soon_threadsafe(self._start, self._batch)
            self._batch = []

    def go_on(self) -> None:
        """Nothing to do: the loop runs the tasks."""

    def finish(self) -> None:
        """Nothing to do: the loop runs the tasks."""

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
        return False  # the loop ends the command if it sees the mark before it starts it

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
        """Nothing to do: the loop belongs to the process."""
