"""`ram/`: a disk in memory."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterable
from typing import ClassVar

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Extent, Handler
from tcmu_runner.iov import Buffers
from tcmu_runner.units import format_size

PAGE = mmap.PAGESIZE
MAP_NORESERVE = 0x4000  # linux/mman.h: memory is charged when it is written; mmap has the name from 3.13
ROOM = 64 << 30


class RamHandler(Handler[str]):
    """ram/

    A disk in memory; takes no configuration. Its content is lost when the device is removed or the daemon
    stops. Memory is used as the disk is written and given back by UNMAP.
    """

    subtype = "ram"
    threads: ClassVar[int] = 0
    volatile: ClassVar[bool] = True
    atomic: ClassVar[bool] = True  # a write can only be torn by the process's end, which loses the disk, too

    def __init__(self, memory: mmap.mmap, size: int, block_size: int) -> None:
        self.memory = memory
        self.size = size
        self.block_size = block_size
        self.view = memoryview(memory)
        self._mapped = _map(len(memory) // block_size)  # a byte for each block: 1 if it was written

    @classmethod
    def parse(cls, config: str) -> str:
        if config.strip("/"):
            raise ConfigError(f"ram takes no configuration, found {config!r}: write ram/")
        return ""

    @classmethod
    def open(cls, device: Device, config: str) -> RamHandler:
        """Reserves address space ahead: a disk that grows must not move while commands use its memory."""
        for room in (max(4 * device.size, ROOM), device.size):
            try:
                return cls(_map(room), device.size, device.block_size)
            except (OSError, OverflowError):
                continue  # a limit on address space, or strict overcommit accounting
        raise OSError(
            errno.ENOMEM, f"no memory for a disk of {format_size(device.size)}: set a smaller dev_size"
        )

    def close(self) -> None:
        self.view.release()
        self.memory.close()
        self._mapped.close()

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            end = offset + len(buffer)
            buffer[:] = self.view[offset:end]
            offset = end

    def write(self, data: Buffers, offset: int) -> None:
        first = offset // self.block_size
        for buffer in data:
            end = offset + len(buffer)
            self.view[offset:end] = buffer
            offset = end
        end = offset // self.block_size
        self._mapped[first:end] = b"\1" * (end - first)

    write_durable = write  # there is no cache to flush

    def unmap(self, offset: int, length: int) -> None:
        end = offset + length
        _clear(self._mapped, offset // self.block_size, end // self.block_size)
        _clear(self.memory, offset, end)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.unmap(offset, length)

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        block, mapped = self.block_size, self._mapped
        at, end = offset // block, (offset + length) // block
        while at < end:
            state = mapped[at]
            stop = mapped.find(bytes((1 - state,)), at, end)
            stop = end if stop < 0 else stop
            yield Extent(at * block, (stop - at) * block, bool(state))
            at = stop

    def resize(self, size: int) -> None:
        """Clears what is cut off: it reads as zeroes if the disk grows again."""
        if size > len(self.memory):
            raise OSError(
                errno.ENOMEM,
                f"a disk in memory cannot move to grow, this one ends at {format_size(len(self.memory))}: "
                "create a new one of that size",
            )
        if size < self.size:
            self.unmap(size, self.size - size)
        self.size = size


def _map(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)


def _clear(memory: mmap.mmap, first: int, end: int) -> None:
    """Gives whole pages back to the system and clears the bytes at the edges."""
    inner, last = -(-first // PAGE) * PAGE, end // PAGE * PAGE
    if inner >= last:
        memory[first:end] = bytes(end - first)
        return
    memory[first:inner] = bytes(inner - first)
    memory[last:end] = bytes(end - last)
    memory.madvise(mmap.MADV_DONTNEED, inner, last - inner)
