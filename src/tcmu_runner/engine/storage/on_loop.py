"""Handlers on the asyncio loop: their operations, plans, filters, and the executor of their commands.

What `perform` and `executors` have for threads, once more with `await`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence, Sized
from contextlib import suppress
from functools import partial
from typing import Any, cast

from tcmu_runner import iov
from tcmu_runner.engine.storage.blocking import BlockingDetector
from tcmu_runner.engine.storage.buffer_guard import async_calls, clearing
from tcmu_runner.engine.storage.executors import End, Job, Publish, check_wanted
from tcmu_runner.engine.storage.perform import Neighbour, OperationError, rare_calls
from tcmu_runner.handler.api import AsyncHandler
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import HandleCommand, Operation, Pause, Plan, Read, Remote, Steps, Write
from tcmu_runner.scsi.unit import Capabilities

PerformAsync = Callable[[Operation], Coroutine[object, object, None]]


class AsyncStorage:
    """An asyncio handler; `perform` runs on the loop."""

    def __init__(self, handler: AsyncHandler[Any], can: Capabilities, neighbour: Neighbour) -> None:
        self._handler = handler
        self._read, self._write, self._write_durable = async_calls(handler)
        self._can = can
        self._neighbour = neighbour

    async def perform(self, operation: Operation) -> None:
        match operation:
            case Read():
                await self._read(operation.into, operation.offset)
            case Write():
                store = self._write_durable if operation.fua else self._write
                await store(operation.data, operation.offset)
            case HandleCommand():
                raise NotImplementedError("raw handlers are not asynchronous")
            case Remote():
                await asyncio.to_thread(self._neighbour, operation.unit, operation.operation)
            case _:
                await self._perform_rare(operation)

    async def _perform_rare(self, operation: Operation) -> None:
        calls = rare_calls(self._handler, self._can, operation)
        with suppress(StopIteration):
            result = await cast("Awaitable[object]", next(calls))
            while True:
                result = await cast("Awaitable[object]", calls.send(result))


async def carry_out_async(plan: Plan, perform: PerformAsync) -> None:
    """`carry_out` on the loop."""
    if plan is None:
        return
    steps = plan if isinstance(plan, Generator) else _single(plan)
    operation: Operation | None = None
    try:
        operation = next(steps)
        while True:
            try:
                await perform(operation)
            except Exception as error:
                operation = steps.throw(error)
            else:
                operation = next(steps)
    except StopIteration:
        return
    except BaseException as error:
        raise OperationError(error, operation) from error


def _single(operation: Operation) -> Steps:
    yield operation


def through_async(filters: Sequence[Filter[Any]], perform: PerformAsync) -> PerformAsync:
    """`through` on the loop."""
    for layer, clears in clearing(filters):
        perform = _above_async(layer, perform, clears=clears)
    return perform


def _above_async(layer: Filter[Any], below: PerformAsync, *, clears: bool) -> PerformAsync:
    async def perform_below(operation: Operation) -> None:
        if isinstance(operation, Pause):
            await asyncio.sleep(operation.seconds)
        else:
            await below(operation)

    async def perform(operation: Operation) -> None:
        if clears and isinstance(operation, Read):
            iov.zero(operation.into)
        try:
            await carry_out_async(layer.handle(operation), perform_below)
        except OperationError as failure:
            raise failure.unwrapped() from None

    return perform


class AsyncExecutor:
    """Runs commands as tasks of one asyncio loop, started in batches: one wake-up of the loop for each."""

    def __init__(
        self, perform: PerformAsync, end: End, publish: Publish, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._perform = perform
        self._end = end
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
                self._end(command, command.withdrawn)
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
        except OperationError as failure:
            self._end(command, failure.error, failure.operation)
        else:
            self._end(command)
        self._publish()

    async def _perform_next(self, command: Command, operation: Operation) -> None:
        check_wanted(command)
        await self._perform(operation)

    def close(self) -> None:
        """Nothing to do: the loop belongs to the process."""
