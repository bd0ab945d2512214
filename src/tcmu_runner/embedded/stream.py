"""The transport of one connection: bytes of its socket to the machine, and bytes of the machine to it."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from tcmu_runner.embedded.endpoint import host_of, host_port
from tcmu_runner.embedded.keepalive import limit_silence
from tcmu_runner.iscsi.target_connection import TargetConnection

UNSENT_MAX = 1 << 20  # bytes; beyond, the connection is paused


class Stream(asyncio.BufferedProtocol):
    """All on the loop's thread. Nothing is read while the initiator does not read what it has been sent.

    machine: the protocol. heard: the initiator has sent something since the last `signs_of_life`.
    """

    def __init__(self, machine: TargetConnection) -> None:
        self.machine = machine
        self.peer = self.local_host = ""
        self.heard = False
        self._waiting = 0  # bytes that were unsent then
        self._transport: asyncio.Transport | None = None

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
        return self.machine.space()

    def flush(self) -> None:
        """Sends what the machine has to send, and closes the transport of one that is closed."""
        data, transport = self.machine.data_to_send(), self._transport
        if transport is None or transport.is_closing():
            return
        if data:
            transport.write(data)
        if self.machine.closed:
            transport.close()

    def pause_writing(self) -> None:
        self.machine.paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.machine.paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes the connection without waiting for an initiator that does not read."""
        self.machine.closed = True
        if self._transport is not None:
            self._transport.abort()

    def signs_of_life(self) -> bool:
        """Whether the initiator has sent or taken anything since the last call."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        alive = self.heard or waiting < self._waiting
        self.heard, self._waiting = False, waiting
        return alive

    def connection_lost(self, exc: Exception | None) -> None:
        self.machine.closed = True
        self._transport = None
