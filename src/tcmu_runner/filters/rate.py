"""`rate`: a limit on operations and bytes per second."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.op_names import extent
from tcmu_runner.filters.options import parse_table
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Pause, Steps


@dataclass(frozen=True, slots=True)
class RateOptions:
    """operations, bytes: per second; 0: no limit. burst: seconds of unused share that may be used at once."""

    operations: int = 0
    bytes: int = 0
    burst: float = 0.1

    def __post_init__(self) -> None:
        if not self.operations and not self.bytes:
            raise ConfigError("it limits nothing: give operations or bytes, per second")


class Bucket:
    """Delays operations so that all together keep to a rate. Any thread."""

    def __init__(self, burst: float, clock: Clock = MACHINE) -> None:
        self._burst = burst
        self._now = clock.monotonic
        self._lock = threading.Lock()
        self._paid_until = clock.monotonic()

    def wait(self, cost: float) -> float:
        """Seconds until an operation may begin. cost: seconds of the whole rate that it takes."""
        with self._lock:
            now = self._now()
            begin = max(self._paid_until, now - self._burst)
            self._paid_until = begin + cost
            return max(begin - now, 0.0)


class Rate(Filter[RateOptions]):
    """Limits the operations, or bytes, per second that reach the storage below.

      operations   per second
      bytes        per second, for example "50M": bytes read, written, zeroed and unmapped
      burst        seconds of unused share that may be used at once (0.1)

    Example: { filter = "rate", operations = 500, bytes = "20M" }
    """

    name = "rate"
    threads: ClassVar[int] = 32

    def __init__(self, options: RateOptions) -> None:
        self._per_operation = 1 / options.operations if options.operations else 0.0
        self._per_byte = 1 / options.bytes if options.bytes else 0.0
        self._bucket = Bucket(options.burst)

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> RateOptions:
        return parse_table(RateOptions, table)

    @classmethod
    def open(cls, device: Device, options: RateOptions) -> Self:
        return cls(options)

    def handle(self, operation: Operation) -> Steps:
        cost = max(self._per_operation, self._per_byte * extent(operation)[1])
        if seconds := self._bucket.wait(cost):
            yield Pause(seconds)
        yield operation
