"""Disks in memory: one that can do all that a handler can, for the conformance tests, and poor ones."""

from __future__ import annotations

import errno
import time
from mmap import mmap

from tcmu_runner import Device, Space
from tcmu_runner.handlers.ram import PAGE, RamHandler
from tcmu_runner.iov import Buffers

SPEED = 8 << 20  # bytes per second


class Everything(RamHandler):
    """everything/
    As ram, and has a key to throw away.
    """

    subtype = "everything"
    threads = 2

    def crypto_erase(self) -> None:
        self.unmap(0, self.size)


class Slow(RamHandler):
    """slow/
    As ram, but takes its time for large writes.
    """

    subtype = "slow"
    threads = 2

    def write(self, data: Buffers, offset: int) -> None:
        time.sleep(sum(map(len, data)) / SPEED)
        super().write(data, offset)


class Narrow(RamHandler):
    """narrow/
    As ram, but there is room for an eighth of it only.
    """

    subtype = "narrow"

    def __init__(self, memory: mmap, size: int, block_size: int) -> None:
        super().__init__(memory, size, block_size)
        self.pages: set[int] = set()

    def write(self, data: Buffers, offset: int) -> None:
        wanted = self.pages | self._pages(offset, sum(map(len, data)))
        if len(wanted) * PAGE > self.size // 8:
            raise OSError(errno.ENOSPC, "no room is left")
        self.pages = wanted
        super().write(data, offset)

    write_durable = write

    def unmap(self, offset: int, length: int) -> None:
        self.pages -= self._pages(offset, length)
        super().unmap(offset, length)

    def space(self) -> Space:
        used = len(self.pages) * PAGE
        return Space(used, self.size // 8 - used)

    def _pages(self, offset: int, length: int) -> set[int]:
        return set(range(offset // PAGE, -(-(offset + length) // PAGE)))


class Forgetful(RamHandler):
    """forgetful/
    As ram; each flush tells that a write of before is lost, as a cache does that could not be written.
    """

    subtype = "forgetful"
    device: Device

    @classmethod
    def open(cls, device: Device, config: str) -> RamHandler:
        opened = super().open(device, config)
        assert isinstance(opened, cls)
        opened.device = device
        return opened

    def flush(self) -> None:
        self.device.write_lost(OSError(errno.EIO, "the cache could not be written"))
