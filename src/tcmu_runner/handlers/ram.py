"""`ram/`: a disk in memory."""

from __future__ import annotations

import mmap
from typing import ClassVar

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Handler
from tcmu_runner.iov import Buffers

PAGE = mmap.PAGESIZE


class RamHandler(Handler[str]):
    """ram/
    A disk in the memory of the worker; takes no configuration. Its content is gone when the device is removed
    or the daemon stops. Memory is used as it is written and given back by UNMAP.
    """

    subtype = "ram"
    threads: ClassVar[int] = 0

    def __init__(self, disk: mmap.mmap) -> None:
        self.disk = disk
        self.view = memoryview(disk)

    @classmethod
    def parse(cls, config: str) -> str:
        if config.strip("/"):
            raise ConfigError(f"ram takes no configuration, found {config!r}: write ram/")
        return ""

    @classmethod
    def open(cls, device: Device, config: str) -> RamHandler:
        return cls(mmap.mmap(-1, device.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def close(self) -> None:
        self.view.release()
        self.disk.close()

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            end = offset + len(buffer)
            buffer[:] = self.view[offset:end]
            offset = end

    def write(self, data: Buffers, offset: int) -> None:
        for buffer in data:
            end = offset + len(buffer)
            self.view[offset:end] = buffer
            offset = end

    def unmap(self, offset: int, length: int) -> None:
        """Whole pages are given back to the system, the edges are cleared."""
        first, end = -(-offset // PAGE) * PAGE, offset + length
        last = end // PAGE * PAGE
        if first >= last:
            self.view[offset:end] = bytes(length)
            return
        self.view[offset:first] = bytes(first - offset)
        self.view[last:end] = bytes(end - last)
        self.disk.madvise(mmap.MADV_DONTNEED, first, last - first)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.unmap(offset, length)

    def resize(self, size: int) -> None:
        """New memory with the old content, as far as both reach."""
        grown = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        kept = min(size, len(self.disk))
        grown[:kept] = self.view[:kept]
        self.close()
        self.disk, self.view = grown, memoryview(grown)
