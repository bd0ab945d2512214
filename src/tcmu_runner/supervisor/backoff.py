"""How soon the supervisor restarts a device's server that has ended: four times at once, then ever later."""

from __future__ import annotations

import asyncio

from tcmu_runner.supervisor.device import KernelDevice

CALM_SECONDS = 1.0  # a device that was served for so long starts with a clean record
AT_ONCE = 4  # restarts in a row without a delay; a crash loop would take the processor from other devices
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0


class RestartBackoff:
    """Counts for each device how often in a row its server failed right after a restart. On the event
    loop."""

    def __init__(self) -> None:
        self._in_a_row: dict[KernelDevice, int] = {}
        self._served_at: dict[KernelDevice, float] = {}

    def trouble(self, device: KernelDevice) -> tuple[int, float]:
        """Call when a server fails: (failures in a row, seconds to wait before the next restart)."""
        now = asyncio.get_running_loop().time()
        if now - self._served_at.pop(device, now) > CALM_SECONDS:
            self._in_a_row[device] = 0
        count = self._in_a_row[device] = self._in_a_row.get(device, 0) + 1
        late = count - AT_ONCE
        return count, min(FIRST_DELAY * 2 ** (late - 1), LONGEST_DELAY) if late > 0 else 0.0

    def served(self, device: KernelDevice) -> None:
        """A new server has started; after CALM_SECONDS of service the next failure counts as the first."""
        self._served_at[device] = asyncio.get_running_loop().time()

    def forget(self, device: KernelDevice) -> None:
        self._in_a_row.pop(device, None)
        self._served_at.pop(device, None)
