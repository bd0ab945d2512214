"""Executors: run commands' storage operations, on one kind of thread each. `on_loop` has asyncio's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sized
from contextlib import suppress
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
    carry_out,
)
from tcmu_runner.errors import ExhaustedError
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import (
    Operation,
    Plan,
    Read,
    Steps,
    Unmap,
    Write,
    WriteSame,
    WriteZeroes,
)

Publish = Callable[[], None]
Job = tuple[Command, Plan]

AT_ONCE = 4  # operations of one command before others get a turn; each is a MiB at most, or little work

SMALL = 256 << 10  # bytes: a larger transfer would keep the ring's thread from other commands


class End(Protocol):
    """InFlight.end: called, on any thread, when a command's plan has ended."""

    def __call__(
        self, command: Command, error: BaseException | None = None, operation: Operation | None = None, /
    ) -> None: ...


def check_wanted(command: Command) -> None:
    """Raises ABORTED if the command was aborted; not for a command that has to be done whole (exclusive), or
    that goes on without its initiator (outlives)."""
    row = command.row
    if command.withdrawn is ABORTED and row is not None and not (row.exclusive or row.outlives):
        raise ABORTED


class Progress:
    """Runs a command's plan of several operations piece by piece, so that other commands get a turn."""

    def __init__(self, command: Command, steps: Steps) -> None:
        self.command = command
        self._steps = steps
        self._operation: Operation | None = None

    def advance(self, perform: Perform, most: int) -> bool:
        """Does up to `most` operations, or up to one on a range, which may take long. True at the plan's end.
        Raises as `carry_out`. An aborted command does not begin its next operation."""
        command = self.command
        try:
            operation = self._operation or next(self._steps)
            for _ in range(most):
                self._operation = operation
                try:
                    if command.withdrawn is not None:
                        check_wanted(command)
                    perform(operation)
                except Exception as error:
                    operation = self._steps.throw(error)
                else:
                    operation = next(self._steps)
                if isinstance(self._operation, Unmap | WriteZeroes | WriteSame):
                    break
            self._operation = operation
        except StopIteration:
            return True
        except BaseException as error:
            raise OperationError(error, self._operation) from error
        return False


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

    def __init__(self, perform: Perform, end: End, detector: BlockingDetector) -> None:
        self._perform = perform
        self._end = end
        self.detector = detector
        self.unfinished: deque[Progress] = deque()

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        if isinstance(plan, Operation) or plan is None:
            self._carry_out(command, plan)
        else:
            self._advance(Progress(command, plan))

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
        except OperationError as failure:
            self._end(command, failure.error, failure.operation)
        else:
            self._end(command)

    def _advance(self, progress: Progress) -> None:
        """Does some more operations, then ends the command or puts it back."""
        try:
            ended = progress.advance(self._perform, AT_ONCE)
        except OperationError as failure:
            self._end(progress.command, failure.error, failure.operation)
        else:
            if ended:
                self._end(progress.command)
            else:
                self._put_back(progress)

    def _put_back(self, progress: Progress) -> None:
        self.unfinished.append(progress)

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
        end: End,
        detector: BlockingDetector,
        publish: Publish,
        *,
        threads: int,
        name: str,
        apart: bool = False,
        clock: Clock = MACHINE,
    ) -> None:
        super().__init__(perform, end, detector)
        self._publish = publish
        self._now = clock.monotonic
        self._jobs: SimpleQueue[Job | Progress | None] = SimpleQueue()
        self._queued: set[Command] = set()  # the thread that removes a command does or ends it
        self._takes_part = threads > 1 and not apart
        self._name = name
        self._most = threads - 1 if self._takes_part else threads
        self._threads: list[threading.Thread] = []  # started with the first jobs: many LUNs never need any

    def submit(self, command: Command, plan: Plan, *, alone: bool) -> None:
        now = self._now()
        if not self._suits_ring_thread(plan, now, alone=alone):
            self._put((command, plan))
            return
        self.detector.begin(now)
        super().submit(command, plan, alone=alone)
        self.detector.end(self._now(), iov.length(command.data))

    def _put_back(self, progress: Progress) -> None:
        """Queues it behind commands that wait for a thread: there may be only one thread for all."""
        self._jobs.put(progress)

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
            if isinstance(job, Progress):
                self._advance(job)
            elif self.withdraw(job[0]):
                super().submit(*job, alone=False)
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
