"""Requests to a server."""

from __future__ import annotations

import asyncio

from tcmu_runner.handlers.nbd.wire import Kind
from tcmu_runner.iov import Buffers


class Request:
    """One command. buffers: what a READ fills, or a WRITE sends. done: ends with the reply.

    filled: bytes of a READ that have come. error: the server's errno. states: of BLOCK_STATUS, pairs of
    length and flags. since: when it began to wait for a connection. again: it repeats one that was answered
    by a server which has gone away since, and fails with its connection.
    """

    __slots__ = (
        "again", "buffers", "done", "error", "filled", "flags", "kind", "length", "offset", "since", "states",
    )  # fmt: skip

    def __init__(
        self, kind: Kind, offset: int, length: int, flags: int, buffers: Buffers, *,
        done: asyncio.Future[None], again: bool = False,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.offset = offset
        self.length = length
        self.flags = flags
        self.buffers = buffers
        self.done = done
        self.again = again
        self.filled = 0
        self.error = 0
        self.states: list[tuple[int, int]] = []
        self.since = 0.0

    def restart(self) -> None:
        """It is sent anew: whatever came of it so far does not count."""
        self.filled = self.error = 0
        self.states = []
