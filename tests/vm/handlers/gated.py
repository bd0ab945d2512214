"""A disk in memory that stops in the middle of long work until somebody opens its gate."""

import time
from pathlib import Path

from tcmu_runner import Buffers, Device
from tcmu_runner.testing import RamHandler


class Gated(RamHandler):
    """gated//PATH: as ram; zeroing, and writing at the middle of the disk, waits until PATH exists."""

    subtype = "gated"
    threads = 2
    gate: Path

    @classmethod
    def parse(cls, config: str) -> str:
        return config

    @classmethod
    def open(cls, device: Device, config: str) -> "Gated":
        disk = super().open(device, config)
        assert isinstance(disk, Gated)
        disk.gate = Path(config)
        return disk

    def write(self, data: Buffers, offset: int) -> None:
        if offset == self.size // 2:
            self.wait()
        super().write(data, offset)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.wait()
        super().write_zeroes(offset, length, unmap=unmap)

    def wait(self) -> None:
        while not self.gate.exists():
            time.sleep(0.02)
