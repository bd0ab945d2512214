"""Clocks whose time the test moves: one for threads, one for an event loop."""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

TURN = 0.0002  # seconds of the machine's: for other threads, while one sleeps by a clock that jumps
STEP = 0.005  # seconds of this clock's


class ManualClock:
    """A `Clock` that stands still until the test moves it, or a thread sleeps by it: a sleep jumps to its
    end, after a moment in which other threads get on."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        time.sleep(min(seconds, TURN))
        with self._lock:
            self.now = max(self.now, until)

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], seconds: float | None = None
    ) -> bool:
        """In steps, each with a moment for the threads that bring it about: a wait that is long by this clock
        is long enough for them, too."""
        until = math.inf if seconds is None else self.now + seconds
        while not predicate() and self.now < until:
            condition.wait(TURN)
            self.advance(STEP)
        return predicate()


class _Selector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0 if timeout else timeout)
        if not found and timeout:
            self.now += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else is left to do: seconds cost nothing,
    and a timer is never late, however busy the machine is.

    Not for what waits for other threads or processes by time: these it does not see.
    """

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Coroutine[Any, Any, None]) -> None:
    """As asyncio.run, on a loop whose time jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main)


async def pass_by(seconds: float) -> None:
    """Lets time pass on a loop whose time jumps."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop), "this would take as long as it says"
    await asyncio.sleep(seconds)
