"""Late commands: over the administrator's limit (tcmur_cmd_time_out), or over that of any working storage."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command

HUNG_SECONDS = 10.0  # a working storage answers every operation sooner


class Deadlines:
    """Logs late commands. seconds: the administrator's limit; None: none.

    ending: the error for a late command that has not begun; None: it goes on waiting. One that the handler
    has begun cannot be ended: the kernel would give its buffers to another command. expired: called when
    commands have become late.

    Keeps no command between two checks: its buffers are views of the ring's memory, which could then not be
    unmapped.
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
        self._late_before = 0.0  # commands that began earlier have been reported
        self._hung: tuple[float, str] | None = None  # (began, CDB) of the hung command in the log
        self._next = HUNG_SECONDS  # seconds after which it is logged again

    def check(self, under_way: Collection[Command]) -> set[Command]:
        """The commands that have become late since the last check. Call about every second, on one thread."""
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
        """Logs when the oldest command has waited for HUNG_SECONDS, then for twice that, and so on."""
        oldest = min(under_way, key=lambda command: command.began, default=None)
        if self._hung is not None and (oldest is None or oldest.began > self._hung[0]):
            self._device.log.info("storage has answered command %s", self._hung[1])
            self._hung, self._next = None, HUNG_SECONDS
        if oldest is None:
            return
        waited = self._clock.monotonic() - oldest.began
        if waited >= self._next:
            self._device.log.warning(
                "storage has not answered a command for %.0f s: %s still waits, %d commands in all",
                waited, oldest.cdb.hex(), len(under_way),
            )  # fmt: skip
            self._hung, self._next = (oldest.began, oldest.cdb.hex()), 2 * waited
