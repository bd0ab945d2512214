"""Looking at the ring for a moment before sleeping: to be woken takes longer than a command does, but whoever
looks in vain has wasted a processor (docs/adr/0019)."""

from __future__ import annotations

import os
from collections.abc import Callable

from tcmu_runner.clock import MACHINE, Clock

# Other machines may show the head before the entry: there, only a wake-up orders the two (tcmu-abi 8.24).
ORDERED = os.uname().machine in {"x86_64", "i386", "i686"}
SECONDS = 1e-3 if ORDERED else 0.0
MOST_SKIPPED = 31  # looks left out after one in vain


class BusyPoller:
    """Looks while that pays: the more looks in a row were in vain, the more are left out after the next; one
    that found something makes up for all. Used by the ring's thread."""

    def __init__(self, pending: Callable[[], bool], seconds: float = SECONDS, clock: Clock = MACHINE) -> None:
        self._pending = pending
        self._seconds = seconds
        self._clock = clock.monotonic
        self._skip = 0  # looks to be left out
        self._next = 0  # how many after the next in vain

    def sees(self, disturbed: Callable[[], object]) -> bool:
        """Whether something came while it looked. disturbed: there is a reason not to look any more."""
        if self._skip:
            self._skip -= 1
            return False
        pending, clock = self._pending, self._clock
        deadline = clock() + self._seconds
        while not disturbed():
            if pending():
                self._next = 0
                return True
            if clock() >= deadline:
                self._skip, self._next = self._next, min(self._next * 2 + 1, MOST_SKIPPED)
                break
        return False
