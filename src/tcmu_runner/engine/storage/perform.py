"""Performs storage operations: the one module that knows which method of a handler an operation calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

from tcmu_runner import iov
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.buffer_guard import calls, clearing
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

    def __init__(self, handler: Handler[Any], can: Capabilities, neighbour: Neighbour) -> None:
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
        calls = rare_calls(self._handler, self._can, operation)
        with suppress(StopIteration):
            result = next(calls)
            while True:
                result = calls.send(result)


def rare_calls(
    handler: Handler[Any] | AsyncHandler[Any], can: Capabilities, operation: Operation
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
    handler: Handler[Any] | AsyncHandler[Any], operation: WriteZeroes | CompareAndWrite | WriteSame
) -> Generator[object, object, None]:
    match operation:
        case WriteZeroes():
            yield handler.write_zeroes(operation.offset, operation.length, unmap=operation.unmap)
        case CompareAndWrite():
            told = yield handler.compare_and_write(operation.expected, operation.data, operation.offset)
            operation.mismatch = cast("int | None", told)
        case WriteSame():
            yield handler.write_same(operation.offset, operation.length, operation.block)


def _hand_over(handler: Handler[Any], operation: HandleCommand) -> None:
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


def through(filters: Sequence[Filter[Any]], perform: Perform, clock: Clock = MACHINE) -> Perform:
    """`perform` through filters, of which the first is the topmost. clock: measures their pauses."""
    for layer, clears in clearing(filters):
        perform = _above(layer, perform, clock, clears=clears)
    return perform


def _above(layer: Filter[Any], below: Perform, clock: Clock, *, clears: bool) -> Perform:
    """clears: zeroes the buffers of a Read, so that what the filter does not fill is no earlier command's."""

    def perform_below(operation: Operation) -> None:
        if isinstance(operation, Pause):
            clock.sleep(operation.seconds)
        else:
            below(operation)

    def perform(operation: Operation) -> None:
        if clears and isinstance(operation, Read):
            iov.zero(operation.into)
        try:
            _drive(layer.handle(operation), perform_below)
        except OperationError as failure:
            raise failure.unwrapped() from None

    return perform
