"""How soon a device is served again after its server has ended: at once, then later and later."""

from __future__ import annotations

import asyncio
import logging

from tcmu_runner.kernel.device import KernelDevice

CALM_SECONDS = 1.0  # a device that was served for so long has no record
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0

log = logging.getLogger(__name__)


class Recovery:
    """Per device: how often in a row it needed help right after it had been helped. On the event loop."""

    def __init__(self) -> None:
        self._in_a_row: dict[KernelDevice, int] = {}
        self._served_at: dict[KernelDevice, float] = {}

    async def wait_turn(self, device: KernelDevice) -> None:
        """Sleeps as long as the device's record demands: not at all at the first trouble."""
        now = asyncio.get_running_loop().time()
        if now - self._served_at.pop(device, now) > CALM_SECONDS:
            self._in_a_row[device] = 0
        count = self._in_a_row[device] = self._in_a_row.get(device, 0) + 1
        if count > 1:
            delay = min(FIRST_DELAY * 2 ** (count - 2), LONGEST_DELAY)
            log.warning("%s: in trouble %d times in a row, next try in %.1f s", device.title, count, delay)
            await asyncio.sleep(delay)

    def served(self, device: KernelDevice) -> None:
        """It is served again; if that lasts, its record is clean."""
        self._served_at[device] = asyncio.get_running_loop().time()

    def forget(self, device: KernelDevice) -> None:
        self._in_a_row.pop(device, None)
        self._served_at.pop(device, None)
