"""Writes that a server has answered, but not flushed yet."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tcmu_runner import iov
from tcmu_runner.handlers.nbd.request import NbdRequest
from tcmu_runner.handlers.nbd.wire import Kind

ENTRY = 256  # bytes of memory for one change without its data


class Change(NamedTuple):
    """A change that may have to be repeated. number: counted from the first change of the link."""

    number: int
    kind: Kind
    offset: int
    length: int
    flags: int
    data: bytes


class Unflushed:
    """Copies of changes in the order of their replies, until the reply to a FLUSH that was sent after them.

    limit: bytes of memory for copies; `size`: bytes in use. With limit 0 it keeps none, and only knows
    whether there are unflushed changes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._changes: deque[Change] = deque()
        self._count = 0
        self._flushed = 0

    def __bool__(self) -> bool:
        return self._count > self._flushed

    def add(self, request: NbdRequest) -> None:
        """Keeps an answered change, also one with FUA: if all are repeated, older ones must not overwrite
        it."""
        self._count += 1
        if self.limit:
            data = iov.gather(request.buffers) if request.kind == Kind.WRITE else b""
            change = Change(self._count, request.kind, request.offset, request.length, request.flags, data)
            self._changes.append(change)
            self.size += ENTRY + len(data)

    def mark(self) -> int:
        """Call when a FLUSH is sent: the number of the last change that it covers."""
        return self._count

    def flushed(self, mark: int) -> None:
        """Call with its mark when a FLUSH has been answered: drops the changes that it covers."""
        self._flushed = max(self._flushed, mark)
        while self._changes and self._changes[0].number <= mark:
            self.size -= ENTRY + len(self._changes.popleft().data)

    def changes(self) -> list[Change]:
        return list(self._changes)
