"""Time as an argument: code that decides by time asks the clock it was given, so that a test can hold it, or
let an hour pass at once.

An event loop is such a clock already, `loop.time` and `loop.call_later`: code of a loop takes its own loop's.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Any thread. monotonic: seconds since some moment, which only grow; the same for all processes of a
    machine. sleep: the calling thread does nothing for so many seconds."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class MachineClock:
    """The machine's. Its methods are the C functions themselves: a dispatcher asks it for each command."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


MACHINE: Clock = MachineClock()
