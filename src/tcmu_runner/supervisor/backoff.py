"""How soon a device is served again after its server has ended: a few times at once, then later and later."""

from __future__ import annotations

import asyncio

from tcmu_runner.supervisor.device import KernelDevice

CALM_SECONDS = 1.0  # a device that was served for so long has no record: to initiators it is of use
AT_ONCE = 4  # so often in a row; more of it is a loop that would cost the others their processor
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0


class RestartBackoff:
    """Per device: how often in a row it needed help right after it had been helped. On the event loop."""

    def __init__(self) -> None:
        self._in_a_row: dict[KernelDevice, int] = {}
        self._served_at: dict[KernelDevice, float] = {}

    def trouble(self, device: KernelDevice) -> tuple[int, float]:
        """How often in a row it needs help now, and how many seconds that has to wait: none at first."""
        now = asyncio.get_running_loop().time()
        if now - self._served_at.pop(device, now) > CALM_SECONDS:
            self._in_a_row[device] = 0
        count = self._in_a_row[device] = self._in_a_row.get(device, 0) + 1
        late = count - AT_ONCE
        return count, min(FIRST_DELAY * 2 ** (late - 1), LONGEST_DELAY) if late > 0 else 0.0

    def served(self, device: KernelDevice) -> None:
        """It is served again; if that lasts, its record is clean."""
        self._served_at[device] = asyncio.get_running_loop().time()

    def forget(self, device: KernelDevice) -> None:
        self._in_a_row.pop(device, None)
        self._served_at.pop(device, None)
