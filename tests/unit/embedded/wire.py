"""A connection of a server without a socket: its transport keeps what is written."""

from __future__ import annotations

import asyncio

from tcmu_runner.embedded.connection import Connection
from tcmu_runner.iscsi import pdu, requests, text


class Wire(asyncio.Transport):
    """What the target writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return Options() if name == "socket" else ("127.0.0.1", 1)

    def resume_reading(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Options:
    def setsockopt(self, *option: int) -> None:
        pass


def feed(connection: Connection, piece: bytes) -> None:
    """As the loop does with what an initiator sends."""
    at = 0
    while at < len(piece) and not connection.machine.closed:
        space = connection.get_buffer(-1)
        part = piece[at : at + len(space)]
        space[: len(part)] = part
        connection.buffer_updated(len(part))
        at += len(part)


def login(target: str, **keys: str) -> bytes:
    """The request of a login to a target; the CmdSN of the first request after it is 1."""
    pairs = {"InitiatorName": "iqn.b:fuzz", "TargetName": target, **keys}
    data = text.render(pairs.items())
    request = requests.Login(0x43, 0x87, 0, 0, len(data), b"\0\2\x3d\0\0\1", 0, 1, 0, 1, 1)
    return pdu.encode(request) + data + bytes(-len(data) & 3)
