"""Polling rings for a moment before sleeping. A wake-up takes longer than a command; polling in vain wastes a
processor (docs/adr/0019)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Other machines may show the head before the entry: there, only a wake-up orders the two (tcmu-abi 8.24).
ORDERED = os.uname().machine in {"x86_64", "i386", "i686"}
SECONDS = 1e-3 if ORDERED else 0.0
MOST_SKIPPED = 31  # polls left out after one in vain


class BusyPoller:
    """Polls while that pays: the more polls in a row were in vain, the more are left out after the next one;
    one success resets that. Used on the ring's thread."""

    def __init__(self, pending: Callable[[], bool], seconds: float = SECONDS) -> None:
        self._pending = pending
        self._seconds = seconds
        self._skip = 0  # polls still to be left out
        self._next = 0  # how many to leave out after the next one in vain

    def sees(self, disturbed: Callable[[], object]) -> bool:
        """Polls; whether a command came. disturbed: whether to stop polling, since other work waits."""
        if self._skip:
            self._skip -= 1
            return False
        pending, clock = self._pending, time.monotonic
        deadline = clock() + self._seconds
        while not disturbed():
            if pending():
                self._next = 0
                return True
            if clock() >= deadline:
                self._skip, self._next = self._next, min(self._next * 2 + 1, MOST_SKIPPED)
                break
        return False
