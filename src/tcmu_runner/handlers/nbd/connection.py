"""One connection to a server, in its transmission phase. All of it runs on the event loop."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections import deque
from contextlib import suppress
from typing import Protocol

from tcmu_runner.handlers.nbd.replies import Replies
from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.wire import REQUEST, REQUEST_MAGIC, Kind, NbdError, NbdExport

VECTORS = 256  # buffers of one sendmsg()
RECORDS = 64 << 10  # bytes that are encrypted by one call
_WANTS = {"SSLWantReadError", "SSLWantWriteError"}  # by name: importing ssl would cost a worker 5 MB


class Owner(Protocol):
    """The sender of the requests; called on the event loop."""

    def answered(self, request: NbdRequest) -> None:
        """The reply to the request has come; request.error may be set."""

    def lost(self, connection: NbdConnection, reason: str) -> None:
        """The connection has ended. `connection.unanswered` are the requests without a reply."""


class NbdConnection:
    """socket: connected and negotiated; the connection closes it."""

    def __init__(
        self, connected: socket.socket, export: NbdExport, owner: Owner, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.export = export
        self._socket = connected
        self._owner = owner
        self._loop = loop
        self._pending: dict[int, NbdRequest] = {}
        self._cookies = itertools.count(1)
        self._replies = Replies(self._pending, owner.answered)
        self._outgoing: deque[memoryview | bytes] = deque()
        self._sending = False  # whether `_send` is scheduled
        self.open = True
        self._encrypted = hasattr(connected, "pending")  # an SSLSocket; see _WANTS
        self._send_some = _send_encrypted if self._encrypted else _send_vectors
        connected.setblocking(False)
        loop.add_reader(connected, self._readable)

    def check(self) -> None:
        """Raises ConnectionResetError when the connection is lost: a request on it would get no reply."""
        if not self.open:
            raise ConnectionResetError(errno.ECONNRESET, "the connection is lost")

    @property
    def unanswered(self) -> list[NbdRequest]:
        """The requests without a reply, in the order in which they were sent."""
        return list(self._pending.values())

    def send(self, request: NbdRequest) -> None:
        """Queues the request: those of one iteration of the loop go out together. Raises what `check`
        does."""
        self.check()
        cookie = next(self._cookies)
        self._pending[cookie] = request
        self._outgoing.append(
            REQUEST.pack(REQUEST_MAGIC, request.flags, request.kind, cookie, request.offset, request.length)
        )
        if request.kind == Kind.WRITE:
            self._outgoing.extend(request.buffers)
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        try:
            while self._outgoing and self.open:
                self._send_some(self._socket, self._outgoing)
        except OSError as error:
            if _would_block(error):
                self._loop.add_writer(self._socket, self._writable)
                return
            self._lose(str(error))
        self._sending = False

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._send()

    def _readable(self) -> None:
        try:
            self._receive()
            while self._encrypted and self.open:  # bytes in OpenSSL's buffer do not make the socket readable
                self._receive()
        except (OSError, NbdError) as error:
            if not _would_block(error):
                self._lose(str(error))

    def _receive(self) -> None:
        count = self._socket.recv_into(self._replies.space())
        if not count:
            raise NbdError("the server has closed the connection")
        self._replies.received(count)

    def _lose(self, reason: str) -> None:
        if self.open:
            self.close()
            self._owner.lost(self, reason)

    def close(self) -> None:
        """Closes at once, without calling `lost`."""
        if self.open:
            self.open = False
            self._outgoing.clear()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def disconnect(self) -> None:
        """Sends NBD_CMD_DISC and closes. Call when no request is under way."""
        if self.open:
            with suppress(OSError):  # the server may have closed already
                self._socket.send(REQUEST.pack(REQUEST_MAGIC, 0, Kind.DISC, 0, 0, 0))
            self.close()


def _would_block(error: Exception) -> bool:
    return isinstance(error, BlockingIOError) or type(error).__name__ in _WANTS


def _send_vectors(connected: socket.socket, outgoing: deque[memoryview | bytes]) -> None:
    sent = connected.sendmsg(list(itertools.islice(outgoing, VECTORS)))
    while sent >= len(outgoing[0]):
        sent -= len(outgoing.popleft())
        if not outgoing:
            return
    if sent:
        outgoing[0] = memoryview(outgoing[0])[sent:]


def _send_encrypted(connected: socket.socket, outgoing: deque[memoryview | bytes]) -> None:
    """OpenSSL requires a repeated write to pass the same bytes: they stay first in `outgoing`."""
    if len(outgoing) > 1 and len(outgoing[0]) < RECORDS:
        pieces, size = [], 0
        while outgoing and size < RECORDS:
            pieces.append(outgoing.popleft())
            size += len(pieces[-1])
        outgoing.appendleft(b"".join(pieces))
    sent = connected.send(outgoing[0])
    if sent < len(outgoing[0]):
        outgoing[0] = memoryview(outgoing[0])[sent:]
    else:
        outgoing.popleft()
