"""Commands that take longer than the administrator said they may (tcmur_cmd_time_out)."""

from __future__ import annotations

import time
from collections.abc import Iterable

from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command


class Deadlines:
    """Tells the log, once for each command. seconds: None where any time will do.

    A late command is still completed: until it is, the kernel keeps its buffers for it.
    """

    def __init__(self, device: Device, seconds: int | None) -> None:
        self._device = device
        self._seconds = seconds
        self._told: set[Command] = set()

    def check(self, under_way: Iterable[Command]) -> None:
        """To be called about every second, on one thread."""
        if not self._seconds:
            return
        began_before = time.monotonic() - self._seconds
        running = list(under_way)
        self._told.intersection_update(running)
        for command in running:
            if command.began < began_before and command not in self._told:
                self._told.add(command)
                self._device.log.warning(
                    "command %s is late: not done after %d s", command.cdb.hex(), self._seconds
                )
