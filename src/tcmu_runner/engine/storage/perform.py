"""Performs storage operations: the one module that knows which method of a handler an operation calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import suppress
from typing import cast

from tcmu_runner import iov
from tcmu_runner.engine.storage.buffer_guard import async_calls, calls, is_ours
from tcmu_runner.handler.api import AsyncHandler, Handler, NotHandled, RawHandler
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import (
    CompareAndWrite,
    CryptoErase,
    Extent,
    Extents,
    Flush,
    HandleCommand,
    MeasureSpace,
    Operation,
    Pause,
    Plan,
    Read,
    Remote,
    Space,
    Steps,
    Unmap,
    Write,
    WriteSame,
    WriteZeroes,
)
from tcmu_runner.scsi.sense import ScsiStatusError, Status
from tcmu_runner.scsi.unit import Capabilities, Unit

Perform = Callable[[Operation], None]
Neighbour = Callable[[Unit, Operation], None]  # performs an operation on another LUN; blocks
PerformAsync = Callable[[Operation], Coroutine[object, object, None]]


class OperationError(Exception):
    """An exception of a command, with the operation that raised it."""

    def __init__(self, error: BaseException, operation: Operation | None) -> None:
        super().__init__(error)
        self.error = error
        self.operation = operation

    def unwrapped(self) -> BaseException:
        """The error to raise instead of this one. Breaks the reference cycle of the two, which would keep
        frames and their buffers until a garbage collection."""
        error = self.error
        del self.error
        self.args, self.__cause__, self.__context__ = (), None, None
        return error


ABORTED = ScsiStatusError(Status.TASK_ABORTED)  # for a command that its initiator has aborted


class Storage:
    """A blocking handler."""

    def __init__(self, handler: Handler[object], can: Capabilities, neighbour: Neighbour) -> None:
        self._handler = handler
        self._read, self._write, self._write_durable = calls(handler)
        self._can = can
        self._neighbour = neighbour

    def perform(self, operation: Operation) -> None:
        """Does one operation on the calling thread; raises what the handler raises."""
        match operation:
            case Read():
                self._read(operation.into, operation.offset)
            case Write():
                store = self._write_durable if operation.fua else self._write
                store(operation.data, operation.offset)
            case HandleCommand():
                _hand_over(self._handler, operation)
            case Remote():
                self._neighbour(operation.unit, operation.operation)
            case _:
                self._perform_rare(operation)

    def _perform_rare(self, operation: Operation) -> None:
        calls = _calls(self._handler, self._can, operation)
        with suppress(StopIteration):
            result = next(calls)
            while True:
                result = calls.send(result)


class AsyncStorage:
    """An asyncio handler; `perform` runs on the loop."""

    def __init__(self, handler: AsyncHandler[object], can: Capabilities, neighbour: Neighbour) -> None:
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
        calls = _calls(self._handler, self._can, operation)
        with suppress(StopIteration):
            result = await cast("Awaitable[object]", next(calls))
            while True:
                result = await cast("Awaitable[object]", calls.send(result))


def _calls(
    handler: Handler[object] | AsyncHandler[object], can: Capabilities, operation: Operation
) -> Generator[object, object, None]:
    """Calls the methods for an operation. Yields each result, an awaitable for an asyncio handler, and
    expects the awaited value in its place."""
    match operation:
        case Flush():
            if can.flush:
                yield handler.flush()
        case Unmap():
            yield handler.unmap(operation.offset, operation.length)
        case WriteZeroes() | CompareAndWrite() | WriteSame():
            yield from _change(handler, operation)
            if operation.fua and can.flush:
                yield handler.flush()
        case Extents():
            found = yield handler.extents(operation.offset, operation.length)
            operation.found.extend(cast("Iterable[Extent]", found))
        case MeasureSpace():
            operation.found = cast("Space", (yield handler.space()))
        case CryptoErase():
            yield handler.crypto_erase()


def _change(
    handler: Handler[object] | AsyncHandler[object], operation: WriteZeroes | CompareAndWrite | WriteSame
) -> Generator[object, object, None]:
    match operation:
        case WriteZeroes():
            yield handler.write_zeroes(operation.offset, operation.length, unmap=operation.unmap)
        case CompareAndWrite():
            told = yield handler.compare_and_write(operation.expected, operation.data, operation.offset)
            operation.mismatch = cast("int | None", told)
        case WriteSame():
            yield handler.write_same(operation.offset, operation.length, operation.block)


def _hand_over(handler: Handler[object], operation: HandleCommand) -> None:
    assert isinstance(handler, RawHandler)
    answer = handler.command(operation.command)
    if not isinstance(answer, NotHandled):
        operation.handled, operation.status = True, answer


def carry_out(plan: Plan, perform: Perform) -> None:
    """Runs a plan to its end. A failed operation is first thrown into the plan. Raises OperationError."""
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
            except Exception as error:  # the plan may handle any failure of the storage
                operation = steps.throw(error)
            else:
                operation = next(steps)
    except StopIteration:
        return
    except BaseException as error:
        raise OperationError(error, operation) from error


class Progress:
    """Runs a plan of several operations piece by piece, so that other commands get a turn."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._operation: Operation | None = None

    def advance(self, perform: Perform, most: int) -> bool:
        """Does up to `most` operations, or up to one on a range, which may take long. True at the plan's end.
        Raises as `carry_out`."""
        try:
            operation = self._operation or next(self._steps)
            for _ in range(most):
                self._operation = operation
                try:
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


def through(filters: Sequence[Filter[object]], perform: Perform) -> Perform:
    """`perform` through filters, of which the first is the topmost."""
    for layer in reversed(filters):
        perform = _above(layer, perform)
    return perform


def _above(layer: Filter[object], below: Perform) -> Perform:
    def perform_below(operation: Operation) -> None:
        if isinstance(operation, Pause):
            time.sleep(operation.seconds)
        else:
            below(operation)

    clears = not is_ours(layer)

    def perform(operation: Operation) -> None:
        if clears and isinstance(operation, Read):
            iov.zero(operation.into)  # bytes that the filter does not fill must not be an earlier command's
        try:
            _drive(layer.handle(operation), perform_below)
        except OperationError as failure:
            raise failure.unwrapped() from None

    return perform


def through_async(filters: Sequence[Filter[object]], perform: PerformAsync) -> PerformAsync:
    """`through` on the loop."""
    for layer in reversed(filters):
        perform = _above_async(layer, perform)
    return perform


def _above_async(layer: Filter[object], below: PerformAsync) -> PerformAsync:
    async def perform_below(operation: Operation) -> None:
        if isinstance(operation, Pause):
            await asyncio.sleep(operation.seconds)
        else:
            await below(operation)

    clears = not is_ours(layer)

    async def perform(operation: Operation) -> None:
        if clears and isinstance(operation, Read):
            iov.zero(operation.into)
        try:
            await carry_out_async(layer.handle(operation), perform_below)
        except OperationError as failure:
            raise failure.unwrapped() from None

    return perform
