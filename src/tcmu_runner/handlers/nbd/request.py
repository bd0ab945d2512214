"""Requests to a server."""

from __future__ import annotations

import asyncio

from tcmu_runner.handlers.nbd.wire import Kind
from tcmu_runner.iov import Buffers


class NbdRequest:
    """One request. buffers: filled by READ, sent by WRITE. done: ends with the reply.

    filled: bytes of a READ that have come. error: the server's errno. states: of BLOCK_STATUS, pairs of
    length and flags. since: loop time at which it began to wait for a connection. again: it repeats a request
    that a dead server had answered, and fails with its connection.
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
        """Clears what came of it: it is sent again on another connection."""
        self.filled = self.error = 0
        self.states = []
