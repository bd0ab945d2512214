"""Keeps connections to an export; requests outlive them. All of it runs on the event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tcmu_runner.handler import Device
from tcmu_runner.handlers.nbd.connection import NbdConnection
from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.unflushed import Change, Unflushed
from tcmu_runner.handlers.nbd.wire import ExportFlag, Kind, NbdExport
from tcmu_runner.iov import Buffers

Connect = Callable[[], Awaitable[Sequence[tuple[socket.socket, NbdExport]]]]
Check = Callable[[NbdExport], None]

PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts
TICK = 0.5  # seconds between checks for requests that have waited too long
AT_ONCE = 64  # writes sent again at a time


class Link:
    """connect: makes connections, one or more. check: raises OSError if the export does not suit the LUN.

    Without a connection, requests wait; after `hold` seconds they fail with ETIMEDOUT, which initiators see
    as BUSY. After a reconnect the link first repeats writes that were answered but not flushed, up to `keep`
    bytes of them, since a server that died has lost them; then the requests without a reply.
    """

    def __init__(self, connect: Connect, check: Check, device: Device, *, hold: float, keep: int) -> None:
        self.export: NbdExport
        self._connect = connect
        self._check = check
        self._device = device
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self._connections: list[NbdConnection] = []
        self._next = 0
        self._waiting: list[NbdRequest] = []
        self._unflushed = Unflushed(keep)
        self._relief: asyncio.Task[None] | None = None  # the flush that empties `_unflushed`
        self._reconnecting: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._failure = ""  # why the last attempt to connect failed

    async def open(self) -> None:
        """Connects for the first time. Raises OSError."""
        await self._establish()

    # Requests

    def send(self, kind: Kind, offset: int, length: int, flags: int, buffers: Buffers) -> NbdRequest:
        """Starts a request. Its `done` ends with the reply, or raises OSError."""
        request = NbdRequest(kind, offset, length, flags, buffers, done=self._loop.create_future())
        self._submit(request)
        return request

    def _submit(self, request: NbdRequest) -> None:
        connections = self._connections
        if not connections:
            request.since = self._loop.time()
            self._waiting.append(request)
        elif len(connections) == 1:
            connections[0].send(request)
        else:
            self._next = (self._next + 1) % len(connections)
            connections[self._next].send(request)

    async def change(self, kind: Kind, offset: int, length: int, flags: int, buffers: Buffers) -> None:
        """WRITE, TRIM or WRITE_ZEROES; waits while `_unflushed` is over its limit."""
        unflushed = self._unflushed
        while unflushed.size > unflushed.limit:
            await asyncio.wait([self._relieve()])
        request = self.send(kind, offset, length, flags, buffers)
        await request.done
        if ExportFlag.SEND_FLUSH in self.export.flags:
            unflushed.add(request)
            if unflushed.size > unflushed.limit // 2:
                self._relieve()

    def _relieve(self) -> asyncio.Task[None]:
        if self._relief is None:
            self._relief = self._loop.create_task(self._flush_for_ourselves())
        return self._relief

    async def _flush_for_ourselves(self) -> None:
        """Flushes for initiators that never do: else `_unflushed` would fill the memory. Reports a failure as
        a lost write, since no initiator waits for this flush."""
        mark = self._unflushed.mark()
        try:
            await self.flush()
        except OSError as error:
            if error.errno != errno.ETIMEDOUT:
                self._unflushed.flushed(mark)
                self._device.write_lost(error)
        finally:
            self._relief = None

    async def flush(self) -> None:
        mark = self._unflushed.mark()
        await self.send(Kind.FLUSH, 0, 0, 0, []).done
        self._unflushed.flushed(mark)

    async def status(self, offset: int, length: int) -> list[tuple[int, int]]:
        """BLOCK_STATUS: pairs of length and state from `offset` on; may cover only a part of the range."""
        request = self.send(Kind.BLOCK_STATUS, offset, length, 0, [])
        await request.done
        return request.states

    # What connections tell

    def answered(self, request: NbdRequest) -> None:
        if request.done.done():
            return
        if not request.error:
            request.done.set_result(None)
        elif request.error == errno.ESHUTDOWN:  # the server shuts down: repeat the request on its successor
            request.since = self._loop.time()
            self._waiting.append(request)
        else:
            text = os.strerror(request.error)
            request.done.set_exception(OSError(request.error, f"{text} (said the NBD server)"))

    def lost(self, connection: NbdConnection, reason: str) -> None:
        ours = connection in self._connections
        lost = self._connections if ours else [connection]
        if ours:
            self._connections = []
        now = self._loop.time()
        unanswered = [request for each in lost for request in each.unanswered]
        for each in lost:
            each.close()
        for request in unanswered:
            request.since = now
            if request.again:
                request.done.set_exception(ConnectionResetError(errno.ECONNRESET, reason))
        self._waiting[:0] = [request for request in unanswered if not request.again]
        if ours:
            self._device.lost_connection()
            self._device.log.info("%s", reason)
            self._begin_again()

    # Connections

    def _begin_again(self) -> None:
        self._reconnecting = self._loop.create_task(self._reconnect())
        self._tick()

    async def _reconnect(self) -> None:
        pause = PAUSE
        while True:
            try:
                await self._establish()
            except OSError as error:
                self._note_failure(str(error))
            else:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._failure = ""
        self._device.log.info("connected again")

    def _note_failure(self, text: str) -> None:
        """Logs a failure to connect once, not for each attempt."""
        if text != self._failure:
            self._failure = text
            self._device.log.info("cannot connect: %s", text)

    async def _establish(self) -> None:
        """Connects, repeats unflushed writes, and sends the requests that wait."""
        made = await self._connect()
        connections = [NbdConnection(connected, export, self, self._loop) for connected, export in made]
        try:
            self._check(made[0][1])
            await self._do_again(connections[0])
            for connection in connections:
                connection.check()  # it may have been lost while no request waited for it
        except BaseException:
            for connection in connections:
                connection.close()
            raise
        self.export = made[0][1]
        self._connections = connections
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.restart()
            self._submit(request)

    async def _do_again(self, connection: NbdConnection) -> None:
        """Repeats unflushed writes; those that may overlap in their order."""
        unflushed = self._unflushed
        if unflushed and not unflushed.limit:
            unflushed.flushed(unflushed.mark())
            self._device.write_lost(
                OSError(errno.EIO, "the server may have forgotten what was not flushed; none of it was kept")
            )
        batch: list[NbdRequest] = []
        for change in unflushed.changes():
            if len(batch) == AT_ONCE or any(_overlaps(change, request) for request in batch):
                await self._answers(batch)
                batch = []
            buffers = [memoryview(change.data)] if change.data else []
            request = NbdRequest(
                change.kind, change.offset, change.length, change.flags, buffers,
                done=self._loop.create_future(), again=True,
            )  # fmt: skip
            batch.append(request)
            connection.send(request)
        await self._answers(batch)

    async def _answers(self, batch: list[NbdRequest]) -> None:
        """Raises ConnectionResetError when the connection is lost."""
        for result in await asyncio.gather(*(request.done for request in batch), return_exceptions=True):
            if isinstance(result, ConnectionResetError):
                raise result
            if isinstance(result, OSError):
                self._device.write_lost(result)

    async def renew(self) -> None:
        """Replaces the connections, after their requests have ended: an export's new size shows only on a new
        one. Raises OSError when there is none within `hold` seconds."""
        old, self._connections = self._connections, []
        while any(connection.open and connection.unanswered for connection in old):
            await asyncio.sleep(PAUSE / 10)
        if old and ExportFlag.SEND_FLUSH in self.export.flags:
            with suppress(ConnectionResetError):  # `_establish` then repeats what was not flushed
                await self._flush_over(old[0])
        for connection in old:
            connection.disconnect()
        if self._reconnecting is None or self._reconnecting.done():
            self._begin_again()
        assert self._reconnecting is not None
        _, late = await asyncio.wait([self._reconnecting], timeout=max(self._hold, 1))
        if late:
            raise OSError(errno.ETIMEDOUT, f"no new connection: {self._failure}")

    async def _flush_over(self, connection: NbdConnection) -> None:
        mark = self._unflushed.mark()
        request = NbdRequest(Kind.FLUSH, 0, 0, 0, [], done=self._loop.create_future(), again=True)
        connection.send(request)
        await self._answers([request])
        self._unflushed.flushed(mark)

    def _tick(self) -> None:
        """Fails requests that have waited for `hold` seconds."""
        limit = self._loop.time() - self._hold
        for request in [each for each in self._waiting if each.since <= limit]:
            self._waiting.remove(request)
            text = f"no connection to the server for {self._hold:g} s: {self._failure or 'still trying'}"
            request.done.set_exception(OSError(errno.ETIMEDOUT, text))
        if not self._connections:
            self._ticking = self._loop.call_later(TICK, self._tick)

    async def close(self) -> None:
        """Call when no request is under way."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
        if self._relief is not None and self._connections:
            await asyncio.wait([self._relief], timeout=self._hold)
        if self._unflushed and not self._connections:
            self._device.log.error("closed without a connection: writes that were not flushed may be lost")
        for connection in self._connections:
            connection.disconnect()
        self._connections = []


def _overlaps(change: Change, request: NbdRequest) -> bool:
    return change.offset < request.offset + request.length and request.offset < change.offset + change.length
