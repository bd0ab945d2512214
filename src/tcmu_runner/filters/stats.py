"""`stats`: counts operations."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Self

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.filters.op_names import extent, kind
from tcmu_runner.handler.device import Device, DeviceLog
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Steps
from tcmu_runner.units import format_size


@dataclass(slots=True)
class Tally:
    """Of one kind of operation. seconds: sum of durations; longest: one duration, in seconds."""

    count: int = 0
    bytes: int = 0
    errors: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def __str__(self) -> str:
        mean, longest = self.seconds / self.count * 1e3, self.longest * 1e3
        told = f"{self.count}, {format_size(self.bytes)}, {mean:.3f} ms on average, {longest:.3f} ms at most"
        return f"{told}, {self.errors} failed" if self.errors else told


class Stats(Filter[None]):
    """Counts operations, bytes, failures and durations at its place in the stack, and logs them when the
    device is closed. The daemon counts commands of initiators anyway; this shows what filters make of them.

    No options. Example: { filter = "stats" }
    """

    name = "stats"

    def __init__(self, log: DeviceLog, clock: Clock = MACHINE) -> None:
        self._log = log
        self._now = clock.monotonic
        self._lock = threading.Lock()
        self.tallies: dict[str, Tally] = {}

    @classmethod
    def open(cls, device: Device, options: None) -> Self:
        return cls(device.log)

    def handle(self, operation: Operation) -> Steps:
        began = self._now()
        failed = True
        try:
            yield operation
            failed = False
        finally:
            self._count(operation, self._now() - began, failed=failed)

    def _count(self, operation: Operation, seconds: float, *, failed: bool) -> None:
        with self._lock:
            tally = self.tallies.setdefault(kind(operation), Tally())
            tally.count += 1
            tally.bytes += extent(operation)[1]
            tally.errors += failed
            tally.seconds += seconds
            tally.longest = max(tally.longest, seconds)

    def close(self) -> None:
        for name, tally in sorted(self.tallies.items()):
            self._log.info("%s: %s", name, tally)
