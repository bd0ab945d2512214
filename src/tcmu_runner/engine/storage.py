"""Performing storage operations on a handler: the one place that knows which method an operation is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence

from tcmu_runner.handler.api import AsyncHandler, Handler, NotHandled, RawHandler
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import (
    Extents,
    Flush,
    HandleCommand,
    Operation,
    Plan,
    Read,
    Steps,
    Unmap,
    Write,
    WriteZeroes,
)
from tcmu_runner.scsi.unit import Capabilities

Perform = Callable[[Operation], None]
PerformAsync = Callable[[Operation], Awaitable[None]]


class OperationError(Exception):
    """Carries what a command raised together with the operation during which it did."""

    def __init__(self, error: BaseException, operation: Operation | None) -> None:
        super().__init__(error)
        self.error = error
        self.operation = operation


class Storage:
    """A blocking handler."""

    def __init__(self, handler: Handler[object], can: Capabilities) -> None:
        self._handler = handler
        self._can = can

    def perform(self, operation: Operation) -> None:
        """Does one operation on the calling thread; raises what the handler raises."""
        handler = self._handler
        match operation:
            case Read():
                handler.read(operation.into, operation.offset)
            case Write():
                store = handler.write_durable if operation.fua else handler.write
                store(operation.data, operation.offset)
            case Flush():
                if self._can.flush:
                    handler.flush()
            case Unmap():
                handler.unmap(operation.offset, operation.length)
            case WriteZeroes():
                handler.write_zeroes(operation.offset, operation.length, unmap=operation.unmap)
                if operation.fua and self._can.flush:
                    handler.flush()
            case Extents():
                operation.found.extend(handler.extents(operation.offset, operation.length))
            case HandleCommand():
                _hand_over(handler, operation)


def _hand_over(handler: Handler[object], operation: HandleCommand) -> None:
    assert isinstance(handler, RawHandler)
    answer = handler.command(operation.command)
    if not isinstance(answer, NotHandled):
        operation.handled, operation.status = True, answer


class AsyncStorage:
    """An asyncio handler; `perform` runs on the loop."""

    def __init__(self, handler: AsyncHandler[object], can: Capabilities) -> None:
        self._handler = handler
        self._can = can

    async def perform(self, operation: Operation) -> None:
        handler = self._handler
        match operation:
            case Read():
                await handler.read(operation.into, operation.offset)
            case Write():
                store = handler.write_durable if operation.fua else handler.write
                await store(operation.data, operation.offset)
            case Flush():
                if self._can.flush:
                    await handler.flush()
            case Unmap():
                await handler.unmap(operation.offset, operation.length)
            case WriteZeroes():
                await handler.write_zeroes(operation.offset, operation.length, unmap=operation.unmap)
                if operation.fua and self._can.flush:
                    await handler.flush()
            case Extents():
                operation.found.extend(await handler.extents(operation.offset, operation.length))
            case HandleCommand():
                raise NotImplementedError("raw handlers are not asynchronous")


def carry_out(plan: Plan, perform: Perform) -> None:
    """Runs a plan to its end. Raises OperationError; a failed operation is first offered to the plan."""
    if plan is None:
        return
    if isinstance(plan, Generator):
        _drive(plan, perform)
        return
    try:
        perform(plan)
    except BaseException as error:
        raise OperationError(error, plan) from error


def _drive(steps: Steps, perform: Perform) -> None:
    operation: Operation | None = None
    try:
        operation = next(steps)
        while True:
            try:
                perform(operation)
            except Exception as error:  # the plan may have an answer to any failure of the storage
                operation = steps.throw(error)
            else:
                operation = next(steps)
    except StopIteration:
        return
    except BaseException as error:
        raise OperationError(error, operation) from error


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


def through(filters: Sequence[Filter], perform: Perform) -> Perform:
    """`perform` with filters above it; the first filter is the topmost."""
    for layer in reversed(filters):
        perform = _above(layer, perform)
    return perform


def _above(layer: Filter, below: Perform) -> Perform:
    def perform(operation: Operation) -> None:
        try:
            _drive(layer.handle(operation), below)
        except OperationError as failure:
            raise failure.error from None

    return perform


def through_async(filters: Sequence[Filter], perform: PerformAsync) -> PerformAsync:
    """`through` on the loop."""
    for layer in reversed(filters):
        perform = _above_async(layer, perform)
    return perform


def _above_async(layer: Filter, below: PerformAsync) -> PerformAsync:
    async def perform(operation: Operation) -> None:
        try:
            await carry_out_async(layer.handle(operation), below)
        except OperationError as failure:
            raise failure.error from None

    return perform
