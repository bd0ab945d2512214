"""The data area: the kernel gives out the lowest free blocks first, and merges adjacent ones into one iov."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from tcmu_runner.ring.layout import Iov


class Blocks:
    """The blocks of `area` from the offset `start` on, all free at first. What they hold is left as it is."""

    def __init__(self, area: memoryview, start: int, block_size: int) -> None:
        self._area = area
        self.total = self.free = (len(area) - start) // block_size * block_size  # bytes
        self._block_size = block_size
        self._runs = [(start, start + self.total)] if self.total else []  # sorted, none touches the next

    def whole(self, length: int) -> int:
        """The bytes that a buffer of `length` bytes occupies."""
        return -(-length // self._block_size) * self._block_size

    def take(self, length: int) -> list[Iov]:
        """Blocks for `length` bytes, of which there are enough: one iov for each run of adjacent blocks."""
        runs = self._runs
        rest = -(-length // self._block_size) * self._block_size
        self.free -= rest
        if rest and rest < runs[0][1] - runs[0][0]:  # as nearly always
            start, end = runs[0]
            runs[0] = (start + rest, end)
            return [(start, length)]
        iovs = []
        while rest > 0:
            start, end = runs[0]
            cut = start + rest
            if cut < end:
                runs[0] = (cut, end)
            else:
                cut = end
                del runs[0]
            rest -= cut - start
            iovs.append((start, min(length, cut - start)))
            length -= cut - start
        return iovs

    def give(self, iovs: Iterable[Iov]) -> None:
        """Free the blocks of iovs that were taken."""
        runs = self._runs
        for start, length in iovs:
            size = -(-length // self._block_size) * self._block_size
            self.free += size
            end = start + size
            at = bisect_left(runs, (start, end))
            if at < len(runs) and runs[at][0] == end:
                end = runs.pop(at)[1]
            if at and runs[at - 1][1] == start:
                at -= 1
                start = runs.pop(at)[0]  # noqa: PLW2901 - the run grows
            runs.insert(at, (start, end))

    def write(self, iovs: Iterable[Iov], data: memoryview) -> None:
        """Fill blocks with data of the same length."""
        at = 0
        for base, length in iovs:
            self._area[base : base + length] = data[at : at + length]
            at += length

    def read(self, iovs: Sequence[Iov]) -> bytes:
        """What the blocks hold."""
        if len(iovs) == 1:
            base, length = iovs[0]
            return self._area[base : base + length].tobytes()
        return b"".join([self._area[base : base + length] for base, length in iovs])
