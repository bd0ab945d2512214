"""`delay`: a slow storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from tcmu_runner.filters.options import parse_table
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Pause, Read, Steps, Write


@dataclass(frozen=True, slots=True)
class DelayOptions:
    """Seconds before an operation begins: before any, and beside that before reads and writes."""

    seconds: float = 0.0
    read: float = 0.0
    write: float = 0.0


class Delay(Filter[DelayOptions]):
    """Makes the storage slow: each operation begins later.

      seconds   how much later; a number like 0.02
      read      how much later still, if it reads
      write     how much later still, if it writes

    Up to 32 operations wait side by side; more wait for those, unless the handler below is an asyncio one.

    Example: { filter = "delay", seconds = 0.001, write = 0.005 }
    """

    name = "delay"
    threads: ClassVar[int] = 32

    def __init__(self, options: DelayOptions) -> None:
        self._options = options

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> DelayOptions:
        return parse_table(DelayOptions, table)

    @classmethod
    def open(cls, device: Device, options: DelayOptions) -> Self:
        return cls(options)

    def handle(self, operation: Operation) -> Steps:
        yield Pause(self._options.seconds + self._of(operation))
        yield operation

    def _of(self, operation: Operation) -> float:
        if isinstance(operation, Read):
            return self._options.read
        return self._options.write if isinstance(operation, Write) else 0.0
