"""Commands that take longer than the administrator said they may (tcmur_cmd_time_out)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command


class Deadlines:
    """Tells the log, once for each command. seconds: None where any time will do.

    ending: what a late command ends in that has not begun; None: it goes on waiting. One that is with the
    handler cannot be ended: its buffers would be another command's. expired: called when some are newly late.
    """

    def __init__(
        self,
        device: Device,
        seconds: int | None,
        ending: Exception | None = None,
        expired: Callable[[], None] = lambda: None,
    ) -> None:
        self._device = device
        self._seconds = seconds
        self.ending = ending
        self.expired = expired
        self._told: set[Command] = set()

    def check(self, under_way: Iterable[Command]) -> set[Command]:
        """Which commands have become late since the last check. To be called about every second, on one
        thread."""
        if not self._seconds:
            return set()
        began_before = time.monotonic() - self._seconds
        late = {command for command in under_way if command.began < began_before}
        new = late - self._told
        self._told = late
        for command in new:
            self._device.log.warning(
                "command %s is late: not done after %d s", command.cdb.hex(), self._seconds
            )
        return new
