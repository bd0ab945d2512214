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
    """Seconds before each operation; read, write: more seconds before a read or a write."""

    seconds: float = 0.0
    read: float = 0.0
    write: float = 0.0


class Delay(Filter[DelayOptions]):
    """Makes the storage slow: each operation begins later.

      seconds   the delay of each operation; a number like 0.02
      read      additional delay of reads
      write     additional delay of writes

    Up to 32 operations wait at the same time; more wait for those, unless the handler below is an asyncio
    one.

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
