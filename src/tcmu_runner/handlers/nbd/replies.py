"""Decodes a server's replies, simple and structured ones, from bytes as they come. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tcmu_runner import iov
from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.wire import (
    CHUNK,
    CHUNK_DONE,
    CHUNK_ERROR,
    CHUNK_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    Chunk,
    Kind,
    NbdError,
)
from tcmu_runner.iov import Buffers

ROOM = 256 << 10
LARGEST_CHUNK = 4 << 20  # bytes of a chunk without data: half a million extents
DIRECT = 16 << 10  # bytes of data from which on they are received straight into the request's buffer


class Replies:
    """Receive into `space`, then call `received`. pending: requests that wait for a reply, by cookie; each is
    removed when its reply is complete. answered: called with it then."""

    def __init__(self, pending: dict[int, NbdRequest], answered: Callable[[NbdRequest], None]) -> None:
        self._pending = pending
        self._answered = answered
        self._buffer = memoryview(bytearray(ROOM))
        self._start = self._end = 0
        self._filling: Buffers = []  # the buffers for the data of the present reply
        self._present: int | None = None  # the reply's cookie, if the reply ends with this data

    def space(self) -> memoryview:
        """The memory for the next bytes; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
            if self._filling and len(self._filling[0]) >= DIRECT:
                return self._filling[0]
        return self._buffer[self._end :]

    def received(self, count: int) -> None:
        """`count` bytes are in `space`. Raises NbdError when the server breaks the protocol."""
        if self._start == self._end and self._filling and len(self._filling[0]) >= DIRECT:
            self._advance(count)
        else:
            self._end += count
        while self._step():
            pass
        if self._start and self._end > len(self._buffer) - SIMPLE_REPLY.size - CHUNK.size:
            self._move(self._buffer)

    def _move(self, room: memoryview) -> None:
        """Moves the undecoded bytes to the beginning of `room`."""
        left = bytes(self._buffer[self._start : self._end])
        self._buffer, self._start, self._end = room, 0, len(left)
        room[: len(left)] = left

    def _step(self) -> bool:
        """Decodes one piece; False when more bytes are needed first."""
        if self._filling:
            return self._fill()
        if self._end - self._start < SIMPLE_REPLY.size:
            return False
        magic, error, cookie = SIMPLE_REPLY.unpack_from(self._buffer, self._start)
        if magic == SIMPLE_REPLY_MAGIC:
            self._start += SIMPLE_REPLY.size
            self._simple(cookie, error)
            return True
        if magic == CHUNK_MAGIC:
            return self._end - self._start >= CHUNK.size and self._chunk()
        raise NbdError(f"a reply begins with {magic:#x}, which no reply does")

    def _fill(self) -> bool:
        """Copies data from our buffer to the request's."""
        while self._filling and self._start < self._end:
            into = self._filling[0]
            count = min(len(into), self._end - self._start)
            into[:count] = self._buffer[self._start : self._start + count]
            self._start += count
            self._advance(count)
        return not self._filling

    def _advance(self, count: int) -> None:
        """`count` bytes of data are in the request's buffers."""
        into = self._filling[0]
        if count < len(into):
            self._filling[0] = into[count:]
            return
        del self._filling[0]
        if not self._filling and self._present is not None:
            cookie, self._present = self._present, None
            self._finish(cookie)

    def _simple(self, cookie: int, error: int) -> None:
        request = self._find(cookie)
        request.error = error
        if error or request.kind != Kind.READ:
            self._finish(cookie)
            return
        request.filled = request.length
        self._filling, self._present = list(request.buffers), cookie

    def _find(self, cookie: int) -> NbdRequest:
        try:
            return self._pending[cookie]
        except KeyError:
            raise NbdError(f"a reply is to request {cookie}, which was not sent") from None

    def _finish(self, cookie: int) -> None:
        self._answered(self._pending.pop(cookie))

    def _chunk(self) -> bool:
        _, flags, kind, cookie, length = CHUNK.unpack_from(self._buffer, self._start)
        request = self._find(cookie)
        head = 8 if kind == Chunk.OFFSET_DATA else length  # bytes needed before the chunk can be decoded
        if self._end - self._start < CHUNK.size + head:
            self._make_room(CHUNK.size + head)
            return False
        at = self._start + CHUNK.size
        self._start = at + head
        try:
            self._content(request, kind, at, length)
        except struct.error:
            raise NbdError(f"a chunk of type {kind} has {length} bytes") from None
        if flags & CHUNK_DONE:
            self._end_of(cookie, request)
        return True

    def _make_room(self, size: int) -> None:
        if size > LARGEST_CHUNK:
            raise NbdError(f"a reply has {size} bytes without data")
        if size > len(self._buffer) - self._start:
            self._move(memoryview(bytearray(max(size, ROOM))))

    def _content(self, request: NbdRequest, kind: int, at: int, length: int) -> None:
        buffer = self._buffer
        if kind == Chunk.OFFSET_DATA:
            (offset,) = struct.unpack_from(">Q", buffer, at)
            self._filling = self._part(request, offset, length - 8)
        elif kind == Chunk.OFFSET_HOLE:
            offset, size = struct.unpack(">QI", buffer[at : at + length])
            iov.zero(self._part(request, offset, size))
        elif kind == Chunk.BLOCK_STATUS:
            self._states(request, buffer[at + 4 : at + length])
        elif kind & CHUNK_ERROR:
            (request.error,) = struct.unpack_from(">I", buffer[at : at + length])
        elif kind != Chunk.NONE:
            raise NbdError(f"a reply has a chunk of type {kind}, which was not agreed on")

    @staticmethod
    def _states(request: NbdRequest, data: memoryview) -> None:
        """Takes the states of one chunk, which has all of them (proto.md, NBD_REPLY_TYPE_BLOCK_STATUS)."""
        states = list(struct.iter_unpack(">II", data))
        if request.kind != Kind.BLOCK_STATUS or request.states:
            raise NbdError("a reply has states of blocks that were not asked for")
        request.states += states
        if not all(size for size, _ in request.states):
            raise NbdError("a reply has the state of no blocks")

    @staticmethod
    def _part(request: NbdRequest, offset: int, length: int) -> Buffers:
        """The request's buffers for these bytes of the export."""
        start = offset - request.offset
        if request.kind != Kind.READ or start < 0 or length <= 0 or start + length > request.length:
            raise NbdError(f"a reply has bytes {offset}+{length}, which were not asked for")
        request.filled += length
        return iov.cut(request.buffers, start, length)

    def _end_of(self, cookie: int, request: NbdRequest) -> None:
        if request.kind == Kind.BLOCK_STATUS and not request.error and not request.states:
            raise NbdError("a request for states of blocks was answered without any")
        if request.kind == Kind.READ and not request.error and request.filled != request.length:
            raise NbdError(f"a read of {request.length} bytes was answered with {request.filled}")
        if self._filling:
            self._present = cookie
        else:
            self._finish(cookie)
