"""Commands that take long: later than the administrator allows (tcmur_cmd_time_out), or than storages do."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command

HUNG_SECONDS = 10.0  # no storage that works takes so long for what initiators ask of it


class Deadlines:
    """Tells the log. seconds: None where any time will do.

    ending: what a late command ends in that has not begun; None: it goes on waiting. One that is with the
    handler cannot be ended: its buffers would be another command's. expired: called when some are newly late.

    No command is kept between two checks: its buffers are the ring's memory, which could not be unmapped.
    """

    def __init__(
        self,
        device: Device,
        seconds: int | None,
        ending: Exception | None = None,
        expired: Callable[[], None] = lambda: None,
        clock: Clock = MACHINE,
    ) -> None:
        self._device = device
        self._seconds = seconds
        self.ending = ending
        self.expired = expired
        self._clock = clock
        self._late_before = 0.0  # commands that began before it are known to be late
        self._hung: tuple[float, str] | None = None  # began, CDB: logged, and not ended yet
        self._next = HUNG_SECONDS  # seconds after which it is logged again

    def check(self, under_way: Collection[Command]) -> set[Command]:
        """Which commands have become late since the last check. To be called about every second, on one
        thread."""
        self._tell_of_hung(under_way)
        if not self._seconds:
            return set()
        known, self._late_before = self._late_before, self._clock.monotonic() - self._seconds
        new = {command for command in under_way if known <= command.began < self._late_before}
        if new:
            oldest = min(new, key=lambda command: command.began)
            others = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            self._device.log.warning(
                "command %s is late: not done after %d s%s", oldest.cdb.hex(), self._seconds, others
            )
        return new

    def _tell_of_hung(self, under_way: Collection[Command]) -> None:
        """A line when the oldest has waited for HUNG_SECONDS, then after twice that, and so on."""
        oldest = min(under_way, key=lambda command: command.began, default=None)
        if self._hung is not None and (oldest is None or oldest.began > self._hung[0]):
            self._device.log.info("its storage has answered command %s", self._hung[1])
            self._hung, self._next = None, HUNG_SECONDS
        if oldest is None:
            return
        waited = self._clock.monotonic() - oldest.began
        if waited >= self._next:
            self._device.log.warning(
                "its storage holds up a command for %.0f s now: %s; %d commands wait",
                waited, oldest.cdb.hex(), len(under_way),
            )  # fmt: skip
            self._hung, self._next = (oldest.began, oldest.cdb.hex()), 2 * waited
