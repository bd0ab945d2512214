"""A lock for each part of a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PART = 64 << 10  # bytes of the disk that are locked together
LOCKS = 256


class StripedLock:
    """One thread at a time on each part; parts that share a lock wait for each other, too."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    @contextmanager
    def on(self, offset: int, length: int) -> Iterator[None]:
        """Takes the locks in order, so that no two threads wait for each other."""
        parts = range(offset // PART, (offset + length - 1) // PART + 1)
        numbers = range(LOCKS) if len(parts) >= LOCKS else sorted({part % LOCKS for part in parts})
        with ExitStack() as stack:
            for number in numbers:
                stack.enter_context(self._locks[number])
            yield

    @contextmanager
    def at_once(self, offset: int) -> Iterator[bool]:
        """Takes the lock of one part if it is free: for a thread that holds another part's already. Yields
        whether it is taken."""
        lock = self._locks[offset // PART % LOCKS]
        mine = lock.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                lock.release()
