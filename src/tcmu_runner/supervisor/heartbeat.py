"""The supervisor's heartbeat: one beat a second while rings or tasks are busy, none while all are idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.kernel.ring_monitor import RingMonitor

BEAT_SECONDS = 1.0
QUIET_BEATS = 4  # idle beats in a row before a rest: else each of a few commands would wake the daemon


class Heartbeat:
    """Beats from `start` to `stop`: tells the guardian that the supervisor lives, and has workers checked for
    hangs. While nothing happens it rests: only `ring_monitor` or `wake` starts it again. On the event loop.

    stirs: called at each beat, and once more before a rest; whether anything happens on a ring or in a task.
    beat_seconds: from one beat to the next.
    """

    def __init__(
        self,
        guardian: Guardian,
        ring_monitor: RingMonitor,
        stirs: Callable[[], bool],
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._guardian = guardian
        self._ring_monitor = ring_monitor
        self._stirs = stirs
        self._beat_seconds = beat_seconds
        self._quiet = 0  # idle beats in a row
        self._resting = False  # what the guardian was sent last
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
        if self._stirs():  # commands from before the clear() do not make the monitor readable
            return False
        self._resting = True
        self._guardian.rest()
        self._loop.add_reader(self._ring_monitor.fileno(), self._rung)
        return True

    def _rung(self) -> None:
        """A command has arrived. Beats later, not now: the processor is the worker's. Until then the guardian
        takes us for resting, which is right."""
        self._loop.remove_reader(self._ring_monitor.fileno())
        self._beat_later()

    def _beat_later(self) -> None:
        self._next = self._loop.call_later(self._beat_seconds, self._beat)
