"""A disk in memory that can do all that a handler can, for the conformance tests."""

from __future__ import annotations

import time
from collections.abc import Iterable
from mmap import mmap

from tcmu_runner import Extent
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.iov import Buffers

BLOCK = 512
SPEED = 8 << 20  # bytes per second


class Everything(RamHandler):
    """everything/
    As ram; knows which blocks hold data, and has a key to throw away.
    """

    subtype = "everything"
    threads = 2

    def __init__(self, memory: mmap, size: int) -> None:
        super().__init__(memory, size)
        self.mapped = bytearray(-(-size // BLOCK))

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data, offset)
        first, end = offset // BLOCK, (offset + sum(map(len, data))) // BLOCK
        self.mapped[first:end] = b"\1" * (end - first)

    write_durable = write

    def unmap(self, offset: int, length: int) -> None:
        super().unmap(offset, length)
        first, end = offset // BLOCK, (offset + length) // BLOCK
        self.mapped[first:end] = bytes(end - first)

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        at, end = offset // BLOCK, (offset + length) // BLOCK
        while at < end:
            state = self.mapped[at]
            stop = self.mapped.find(1 - state, at, end)
            stop = end if stop < 0 else stop
            yield Extent(at * BLOCK, (stop - at) * BLOCK, bool(state))
            at = stop

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
