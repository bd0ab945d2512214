"""Checks reads and writes of foreign handlers (docs/adr/0017): no initiator may get bytes that an earlier
command left in a buffer. A return value that hints at a short transfer or an error fails the command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import CoroutineType
from typing import Any

from tcmu_runner import iov
from tcmu_runner.handler.api import AsyncHandler, Handler
from tcmu_runner.handler.filter import Filter
from tcmu_runner.iov import Buffers

Call = Callable[[Buffers, int], object]
AsyncCall = Callable[[Buffers, int], Awaitable[object]]
OURS = __name__.partition(".")[0]


def is_ours(layer: object) -> bool:
    """Whether it is part of this project: our tests prove that it fills and drains buffers whole."""
    return type(layer).__module__.partition(".")[0] == OURS


def clearing(filters: Sequence[Filter[Any]]) -> Iterator[tuple[Filter[Any], bool]]:
    """The filters, the lowest first, each with whether the buffers of a Read are zeroed before it: those of a
    foreign one. Once for several in a row: what the next one gets is zeroed already, or the filter's own."""
    for above, layer in reversed(list(zip([None, *filters], filters, strict=False))):
        yield layer, not is_ours(layer) and (above is None or is_ours(above))


def calls(handler: Handler[Any]) -> tuple[Call, Call, Call]:
    """The handler's read, write and write_durable, checked for a foreign one."""
    if is_ours(handler):
        return handler.read, handler.write, handler.write_durable
    write = _draining(handler.write)
    inherited = type(handler).write_durable is Handler.write_durable
    durable = _flushed(write, handler) if inherited else _draining(handler.write_durable)
    return _filling(handler.read), write, durable


def async_calls(handler: AsyncHandler[Any]) -> tuple[AsyncCall, AsyncCall, AsyncCall]:
    """`calls` of an asyncio handler."""
    if is_ours(handler):
        return handler.read, handler.write, handler.write_durable
    write = _draining_async(handler.write)
    inherited = type(handler).write_durable is AsyncHandler.write_durable
    durable = _flushed_async(write, handler) if inherited else _draining_async(handler.write_durable)
    return _filling_async(handler.read), write, durable


def _filling(read: Call) -> Call:
    def checked(into: Buffers, offset: int) -> None:
        iov.zero(into)
        answer = read(into, offset)
        if answer is not None:
            _check(answer, into, "read", "fill the buffers whole or raise, and return nothing")

    return checked


def _draining(write: Call) -> Call:
    def checked(data: Buffers, offset: int) -> None:
        answer = write(data, offset)
        if answer is not None:
            _check(answer, data, "write", "store the buffers whole or raise, and return nothing")

    return checked


def _flushed(write: Call, handler: Handler[Any]) -> Call:
    """The inherited write_durable, with the checked write."""

    def checked(data: Buffers, offset: int) -> None:
        write(data, offset)
        if handler._flushes:
            handler.flush()

    return checked


def _filling_async(read: AsyncCall) -> AsyncCall:
    async def checked(into: Buffers, offset: int) -> None:
        iov.zero(into)
        answer = await read(into, offset)
        if answer is not None:
            _check(answer, into, "read", "fill the buffers whole or raise, and return nothing")

    return checked


def _draining_async(write: AsyncCall) -> AsyncCall:
    async def checked(data: Buffers, offset: int) -> None:
        answer = await write(data, offset)
        if answer is not None:
            _check(answer, data, "write", "store the buffers whole or raise, and return nothing")

    return checked


def _flushed_async(write: AsyncCall, handler: AsyncHandler[Any]) -> AsyncCall:
    async def checked(data: Buffers, offset: int) -> None:
        await write(data, offset)
        if handler._flushes:
            await handler.flush()

    return checked


def _check(answer: object, buffers: Buffers, name: str, way_out: str) -> None:
    """Accepts None, the number of all bytes, and 0 or True, which some return for success. Any other number
    is a short transfer, or an error as in C; bytes were not put into the buffers, and a coroutine has not
    run."""
    if isinstance(answer, int):
        length = iov.length(buffers)
        if answer in (0, length) or answer is True:
            return
        raise ValueError(f"{name} returned {answer} for {length} bytes: {way_out}")
    if isinstance(answer, CoroutineType):
        answer.close()
        raise TypeError(f"{name} is a coroutine: make the class an AsyncHandler")
    raise TypeError(f"{name} returned {type(answer).__name__}: {way_out}")
