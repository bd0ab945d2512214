"""The log of slow commands."""

from __future__ import annotations

from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.handler.device import Device


class SlowLog:
    """Logs slow commands. seconds: the duration from which on a command is slow; None: never.

    Statistics also keep the last slow commands.
    """

    def __init__(self, device: Device, statistics: Statistics, seconds: float | None) -> None:
        statistics.slow_seconds = float("inf") if seconds is None else seconds
        self._device = device
        self._statistics = statistics
        self._told = statistics.slow_count

    def tell(self) -> None:
        """Call about every second. Logs one line for all slow commands since the last call, about the
        slowest."""
        count = self._statistics.slow_count
        new = list(self._statistics.slow(self._told))
        number, self._told = count - self._told, count
        if new:
            slowest = max(new, key=lambda slow: slow.seconds)
            others = f" ({number - 1} more were slow)" if number > 1 else ""
            self._device.log.info(
                "slow: command %s of %d bytes took %.3f s, status %02X%s",
                slowest.cdb.hex(), slowest.bytes, slowest.seconds, slowest.status, others,
            )  # fmt: skip
