"""The bytes of one connection: PDUs cut out of what comes, responses put together into few writes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from tcmu_runner.embedded.endpoint import host_of, host_port
from tcmu_runner.embedded.keepalive import limit_silence
from tcmu_runner.iscsi.framing import Frame, Framer, FramingError, Sender
from tcmu_runner.iscsi.pdu import UnknownOpcodeError, encode

if TYPE_CHECKING:
    from tcmu_runner.iscsi.pdu import Pdu

RECEIVE_SEGMENT = 262144
UNSENT_MAX = 1 << 20  # bytes; beyond, the connection is paused


class Stream(asyncio.BufferedProtocol):
    """`receive` is called for each PDU, `batch_done` after those that came together, `lost` once at the end.

    All on the loop's thread. Nothing is read while the initiator does not read what it has been sent.
    """

    def __init__(self, unsent: set[Stream]) -> None:
        """unsent: where a stream puts itself that has something to `flush`."""
        self._unsent = unsent
        self.framer = Framer(RECEIVE_SEGMENT)
        self.sender = Sender()
        self.peer = self.local_host = ""
        self.closing = False
        self.paused = False  # the initiator does not read what it was sent
        self._heard = False  # since the last `signs_of_life`
        self._waiting = 0  # bytes that were unsent then
        self._transport: asyncio.Transport | None = None

    def receive(self, frame: Frame) -> None:
        raise NotImplementedError

    def batch_done(self) -> None:
        raise NotImplementedError

    def malformed(self, error: Exception) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(UNSENT_MAX)
        name = transport.get_extra_info("peername")
        self.peer = host_port(host_of(name), name[1]) if name else "?"
        local = transport.get_extra_info("sockname")
        self.local_host = host_of(local) if local else ""
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit_silence(connected)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.framer.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = True
        self.framer.received(nbytes)
        try:
            while not self.closing and (frame := self.framer.next()) is not None:
                self.receive(frame)
        except (FramingError, UnknownOpcodeError) as error:
            self.malformed(error)
        self.batch_done()

    def send(self, pdu: Pdu, data: bytes | memoryview = b"") -> None:
        """Queues a PDU; `flush` sends it."""
        self.send_header(encode(pdu), data)

    def send_header(self, header: bytes, data: bytes | memoryview = b"") -> None:
        """As `send`, for a header that is packed."""
        self._unsent.add(self)
        self.sender.put(header, data)

    def flush(self) -> None:
        if self.sender and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self.sender.take())

    def pause_writing(self) -> None:
        self.paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Closes the connection once all is sent that was queued."""
        self.flush()
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the connection without waiting for an initiator that does not read."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    def signs_of_life(self) -> bool:
        """Whether the initiator has sent or taken anything since the last call."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        alive = self._heard or waiting < self._waiting
        self._heard, self._waiting = False, waiting
        return alive

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._transport = None
        self.lost()
