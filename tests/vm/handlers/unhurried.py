"""A disk in memory that takes its time for large writes, as real ones do."""

import time

from tcmu_runner import Buffers
from tcmu_runner.testing import RamHandler

LARGE = 1 << 20  # bytes
SPEED = 3 << 20  # bytes per second


class Unhurried(RamHandler):
    """unhurried/: as ram, but slow."""

    subtype = "unhurried"
    threads = 2

    def write(self, data: Buffers, offset: int) -> None:
        size = sum(map(len, data))
        if size >= LARGE:
            time.sleep(size / SPEED)
        super().write(data, offset)
