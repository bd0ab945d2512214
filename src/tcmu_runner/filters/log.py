"""`log`: writes each operation to the log."""

from __future__ import annotations

from typing import Self

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.filters.op_names import text
from tcmu_runner.handler.device import Device, DeviceLog
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Steps


class Log(Filter[None]):
    """Writes each operation to the log, with its duration or error. For debugging: a busy disk writes
    thousands of lines a second.

    No options. Example: { filter = "log" }
    """

    name = "log"

    def __init__(self, log: DeviceLog, clock: Clock = MACHINE) -> None:
        self._log = log
        self._now = clock.monotonic

    @classmethod
    def open(cls, device: Device, options: None) -> Self:
        return cls(device.log)

    def handle(self, operation: Operation) -> Steps:
        began = self._now()
        try:
            yield operation
        except Exception as error:
            self._log.info("%s: failed after %.6f s: %s", text(operation), self._now() - began, error)
            raise
        self._log.info("%s: %.6f s", text(operation), self._now() - began)
