"""A LUN beside a bytearray: random commands, and both hold the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from harness.lun import Lun

LARGEST = 1 << 20


class Model:
    """`step` does one command. seed: the same commands again."""

    def __init__(self, lun: Lun, seed: int) -> None:
        self.lun = lun
        self.random = Random(seed)
        self.bytes = bytearray(lun.size)
        self._commands: list[Callable[[], None]] = [
            self.read, self.read, self.write, self.write, self.write, self.write_small, self.write_zeroes,
            self.write_same, self.compare_and_write, self.miscompare, self.verify, self.write_and_verify,
            self.lun.flush, self.status,
        ]  # fmt: skip
        if lun.unmaps:
            self._commands += [self.unmap, self.unmap]

    def step(self) -> None:
        self.random.choice(self._commands)()

    def check_all(self, lun: Lun) -> None:
        """The whole LUN, perhaps over another session."""
        for offset, data in lun.read_all():
            assert data == self.bytes[offset : offset + len(data)], f"wrong bytes behind {offset}"

    def _range(self, largest: int = LARGEST) -> tuple[int, int]:
        """Small ones are most, and many begin or end where clusters of images do."""
        block = self.lun.block_size
        length = min(largest, block * 2 ** self.random.randrange(12)) - block * self.random.randrange(2)
        length = max(block, length)
        step = self.random.choice((block, block, 65536))
        return self.random.randrange((self.lun.size - length) // step + 1) * step, length

    def _data(self, length: int) -> bytes:
        """Half of it compresses well."""
        return self.random.randbytes(length) if self.random.random() < 0.5 else bytes([self._byte()]) * length

    def _byte(self) -> int:
        return self.random.randrange(1, 256)

    def _put(self, offset: int, data: bytes) -> None:
        self.bytes[offset : offset + len(data)] = data

    def read(self) -> None:
        offset, length = self._range()
        assert self.lun.read(offset, length) == self.bytes[offset : offset + length], f"{offset}+{length}"

    def write(self) -> None:
        offset, length = self._range()
        self._put(offset, data := self._data(length))
        self.lun.write(offset, data, fua=self.random.random() < 0.2)

    def write_small(self) -> None:
        """Beside the last bytes of another one, often."""
        offset, length = self._range(4 * self.lun.block_size)
        self._put(offset, data := self._data(length))
        self.lun.write(offset, data)

    def write_zeroes(self) -> None:
        offset, length = self._range()
        unmap = self.lun.unmaps and self.lun.reads_zero and self.random.random() < 0.5
        self._put(offset, bytes(length))
        self.lun.write_zeroes(offset, length, unmap=unmap)

    def write_same(self) -> None:
        offset, length = self._range(65536)
        block = self._data(self.lun.block_size)
        self._put(offset, block * (length // len(block)))
        self.lun.write_same(offset, length, block)

    def unmap(self) -> None:
        ranges = [self._range() for _ in range(self.random.randrange(1, 4))]
        self.lun.unmap(ranges)
        for offset, length in ranges:
            self._put(offset, bytes(length))
            if not self.lun.reads_zero:
                self.lun.write(offset, bytes(length))

    def compare_and_write(self) -> None:
        offset, length = self._range(self.lun.block_size)
        expected = bytes(self.bytes[offset : offset + length])
        self._put(offset, data := self._data(length))
        assert self.lun.compare_and_write(offset, expected, data)

    def miscompare(self) -> None:
        offset, length = self._range(self.lun.block_size)
        expected = bytearray(self.bytes[offset : offset + length])
        expected[self.random.randrange(length)] ^= self._byte()
        assert not self.lun.compare_and_write(offset, bytes(expected), self._data(length))

    def verify(self) -> None:
        offset, length = self._range()
        data = bytearray(self.bytes[offset : offset + length])
        assert self.lun.verify(offset, bytes(data))
        data[self.random.randrange(length)] ^= self._byte()
        assert not self.lun.verify(offset, bytes(data))

    def write_and_verify(self) -> None:
        offset, length = self._range(65536)
        self._put(offset, data := self._data(length))
        self.lun.write_and_verify(offset, data)

    def status(self) -> None:
        """What is not mapped reads as zeroes, if the LUN says so at all."""
        for offset, length in self.lun.unmapped(self._range()[0]):
            if self.lun.reads_zero:
                assert not any(self.bytes[offset : offset + length]), f"{offset}+{length} is mapped"
