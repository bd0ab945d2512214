"""A poll(2) of which the test has the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tcmu_runner.guardian import watchdog


class Timeline:
    """Stands for `watchdog.poll`. Time passes only while nothing is ready: it jumps to the next step that the
    test has planned, or to the end of the wait. A wait without a limit and without a step ahead is one for
    other processes, by the machine's time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._still = 0.0
        self._steps: list[tuple[float, Callable[[], object]]] = []

    def after(self, seconds: float, step: Callable[[], object]) -> None:
        """Plans a step; called by the one that polls."""
        self._steps.append((self.now + seconds, step))
        self._steps.sort(key=lambda each: each[0])

    def stand_still(self, seconds: float) -> None:
        """The next wait is over when the machine goes on, and no step has had its turn."""
        self._still = seconds

    def poll(self, events: Mapping[int, int], seconds: float | None) -> list[int]:
        end = None if seconds is None else self.now + seconds
        self.now, self._still = self.now + self._still, 0.0
        if end is not None and self.now >= end:
            return []
        while not (ready := watchdog.poll(events, 0)):
            if self._steps and (end is None or self._steps[0][0] < end):
                self.now, step = self._steps.pop(0)
                step()
            elif end is not None:
                self.now = end
                return []
            else:
                return watchdog.poll(events, None)
        return ready
