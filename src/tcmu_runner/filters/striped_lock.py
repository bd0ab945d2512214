"""A lock for each part of a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PART = 64 << 10  # bytes of the disk that are locked together
LOCKS = 256
# A lock for part n is locks[n % LOCKS]: parts that share one wait for each other, too.


class StripedLock:
    """One thread at a time on each part of a disk."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    @contextmanager
    def on(self, offset: int, length: int) -> Iterator[None]:
        """Takes all locks of the range, in ascending order, so that no deadlock can arise."""
        parts = range(offset // PART, (offset + length - 1) // PART + 1)
        numbers = range(LOCKS) if len(parts) >= LOCKS else sorted({part % LOCKS for part in parts})
        with ExitStack() as stack:
            for number in numbers:
                stack.enter_context(self._locks[number])
            yield

    @contextmanager
    def at_once(self, offset: int) -> Iterator[bool]:
        """Takes the lock of one part only if it is free, for a thread that already holds another one. Yields
        whether it was taken."""
        lock = self._locks[offset // PART % LOCKS]
        mine = lock.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                lock.release()
