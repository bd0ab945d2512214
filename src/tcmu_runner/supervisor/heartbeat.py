"""The daemon's heartbeat: regular while there is anything to look after, and none while there is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.kernel.ring_monitor import RingMonitor

BEAT_SECONDS = 1.0
QUIET_BEATS = 4  # in a row, before a rest: not each of a few commands shall wake the daemon


class Heartbeat:
    """Beats from `start` to `stop`, for the guardian and for the workers, of which some might hang. While
    nothing stirs it rests: only `ring_monitor` or a call of `wake` makes it beat again. On the event loop.

    stirs: asked at each beat, and once more before a rest, whether anything happens anywhere.
    """

    def __init__(self, guardian: Guardian, ring_monitor: RingMonitor, stirs: Callable[[], bool]) -> None:
        self._guardian = guardian
        self._ring_monitor = ring_monitor
        self._stirs = stirs
        self._quiet = 0  # beats in a row
        self._resting = False  # as far as the guardian knows
        self._next: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat()

    def stop(self) -> None:
        self._loop.remove_reader(self._ring_monitor.fileno())
        if self._next is not None:
            self._next.cancel()

    def wake(self) -> None:
        """Call before reading a netlink event. Once read, the guardian no longer sees it pending and expects
        heartbeats instead."""
        if self._resting:
            self.stop()
            self._beat()

    def _beat(self) -> None:
        self._resting = False
        self._guardian.beat()
        self._quiet = 0 if self._stirs() else self._quiet + 1
        if self._quiet < QUIET_BEATS or not self._try_to_rest():
            self._beat_later()

    def _try_to_rest(self) -> bool:
        self._quiet = 0
        self._ring_monitor.clear()
        if self._stirs():  # what came before that does not ring
            return False
        self._resting = True
        self._guardian.rest()
        self._loop.add_reader(self._ring_monitor.fileno(), self._rung)
        return True

    def _rung(self) -> None:
        """A command has come, and the processor is left to who serves it: until the next beat the guardian
        may believe that we rest."""
        self._loop.remove_reader(self._ring_monitor.fileno())
        self._beat_later()

    def _beat_later(self) -> None:
        self._next = self._loop.call_later(BEAT_SECONDS, self._beat)
