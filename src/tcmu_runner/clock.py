"""Time as an argument: code that decides by time asks the clock it was given, so that a test can hold it, or
let an hour pass at once.

An event loop is such a clock already, `loop.time` and `loop.call_later`: code of a loop takes its own loop's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Any thread. monotonic: seconds since some moment, which only grow; the same for all processes of a
    machine. sleep: the calling thread does nothing for so many seconds. wait_for: see threading.Condition."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], seconds: float | None = None, /
    ) -> bool: ...


class MachineClock:
    """The machine's. Its methods are the C functions themselves: a dispatcher asks it for each command."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    wait_for = staticmethod(threading.Condition.wait_for)


MACHINE: Clock = MachineClock()
