"""Whether a storage blocks: as long as it does not, the ring's thread calls it directly."""

from __future__ import annotations

import resource
from collections.abc import Callable

SLOW = 300e-6  # seconds: about what handing a command to another thread takes
COPYING = 20e-9  # seconds per byte: memory speed of a slow, emulated machine
EXAMINED = 16  # operations after a slow one, of which context switches are counted
CAUTION = 0.1  # seconds on other threads after a block
MORE_CAUTION = 2.0  # the same, where other LUNs share the ring's thread
MOST_CAUTION = 60.0  # the same, after the ring was moved to a new thread


def switches() -> int:
    """Voluntary context switches of this thread: how often it has waited."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class BlockingDetector:
    """Used on the ring's thread: `at_once`, then `begin` and `end` around an operation.

    Time alone is no proof: a large copy takes long, and so does everything on a busy machine, where more
    threads make it worse. A storage that waits gives up its processor, and the kernel counts that. Reading
    the counter takes about a microsecond, so it is read only for operations after a slow one.

    busy_since: the clock's time when the present operation began, else None; may be read on any thread.
    """

    def __init__(self, caution: float = CAUTION, waits: Callable[[], int] = switches) -> None:
        """caution: seconds for which other threads call a storage that was seen to block."""
        self._caution = caution
        self._waits = waits
        self._before = 0
        self._examined = 0
        self._cautious_until = 0.0
        self.busy_since: float | None = None

    def at_once(self, now: float) -> bool:
        """Whether the ring's thread may call the storage now."""
        return now >= self._cautious_until

    def begin(self, now: float) -> None:
        self.busy_since = now
        if self._examined:
            self._before = self._waits()

    def held_up(self, now: float) -> None:
        """The present operation has blocked so long that the ring got another thread. That one makes no calls
        for MOST_CAUTION seconds, or until this operation has ended. Any thread."""
        self._cautious_until = now + MOST_CAUTION
        self.busy_since = None

    def end(self, now: float, length: int) -> None:
        """A command has ended. Slow but CPU-bound (no voluntary context switch): not counted as blocking."""
        began, self.busy_since = self.busy_since, None
        if began is None:
            self._cautious_until = now + self._caution
        elif now - began > SLOW + length * COPYING:
            if self._examined and self._waits() > self._before:
                self._cautious_until = now + self._caution
            self._examined = EXAMINED
        elif self._examined:
            self._examined -= 1
