"""Whether a storage answers at once: as long as it does, the ring's thread calls it by itself."""

from __future__ import annotations

import resource
from collections.abc import Callable

SLOW = 300e-6  # seconds: handing a command to another thread takes about as long
COPYING = 20e-9  # seconds per byte: as slow as memory is in an emulated machine
EXAMINED = 16  # operations looked at closely after a slow one
CAUTION = 0.1  # seconds
MORE_CAUTION = 2.0  # where not only its own commands wait for the ring's thread
MOST_CAUTION = 60.0  # where they have


def switches() -> int:
    """How often this thread has waited so far: it gave up its processor, nobody took it away."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class BlockingDetector:
    """Used on the ring's thread: `at_once`, then `begin` and `end` around an operation.

    Time alone does not tell. A large copy takes long, and so does everything on a busy machine, where more
    threads make it worse. A storage that waits gives up its processor, and the kernel counts how often. To
    ask costs about a microsecond, so only what follows a slow operation is looked at closely.

    busy_since: when the operation under way began, by the LUN's clock; any thread may ask.
    """

    def __init__(self, caution: float = CAUTION, waits: Callable[[], int] = switches) -> None:
        """caution: seconds for which a storage that was seen waiting is left to other threads."""
        self._caution = caution
        self._waits = waits
        self._before = 0
        self._examined = 0
        self._cautious_until = 0.0
        self.busy_since: float | None = None

    def at_once(self, now: float) -> bool:
        """Whether an operation on the ring's thread will hardly keep the others waiting."""
        return now >= self._cautious_until

    def begin(self, now: float) -> None:
        self.busy_since = now
        if self._examined:
            self._before = self._waits()

    def held_up(self, now: float) -> None:
        """The operation under way takes so long that another thread is the ring's now, which does none for a
        long time, or until this one has ended. Any thread."""
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
