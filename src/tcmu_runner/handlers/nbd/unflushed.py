"""Writes that a server has answered, but not flushed yet."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tcmu_runner import iov
from tcmu_runner.handlers.nbd.request import Request
from tcmu_runner.handlers.nbd.wire import Kind

ENTRY = 256  # bytes of memory for one change without its data


class Change(NamedTuple):
    """What is to be done again. number: of the change, counted from the first one."""

    number: int
    kind: Kind
    offset: int
    length: int
    flags: int
    data: bytes


class Unflushed:
    """Copies of them, in the order of their answers, until a flush was answered that was sent after them.

    limit: bytes of memory that it shall take; `size` tells how many it does. With limit 0 it keeps none, and
    only knows that there are some.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._changes: deque[Change] = deque()
        self._count = 0
        self._flushed = 0

    def __bool__(self) -> bool:
        return self._count > self._flushed

    def add(self, request: Request) -> None:
        """A change that was answered; those with FUA, too: older ones must not overwrite them when all are
        done again."""
        self._count += 1
        if self.limit:
            data = iov.gather(request.buffers) if request.kind == Kind.WRITE else b""
            change = Change(self._count, request.kind, request.offset, request.length, request.flags, data)
            self._changes.append(change)
            self.size += ENTRY + len(data)

    def mark(self) -> int:
        """A flush is sent now: what it covers."""
        return self._count

    def flushed(self, mark: int) -> None:
        """It was answered."""
        self._flushed = max(self._flushed, mark)
        while self._changes and self._changes[0].number <= mark:
            self.size -= ENTRY + len(self._changes.popleft().data)

    def changes(self) -> list[Change]:
        return list(self._changes)
