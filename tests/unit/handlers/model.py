"""A disk beside a bytearray: random storage operations, and after each one both hold the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tcmu_runner import iov
from tcmu_runner.handler import Handler
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities

BLOCKS = 40
Open = Callable[[int], Handler[Any]]


def pieces(data: bytes, cuts: list[int]) -> Buffers:
    """The bytes in as many buffers as the cuts make of them."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [memoryview(bytearray(data[a:b])) for a, b in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 1 << 20), max_size=4)
RANGES = st.tuples(st.integers(0, 2 * BLOCKS - 1), st.integers(0, 2 * BLOCKS - 1))
"""First block, and how many there are besides it; reduced to what there is by `Disk.range`."""


class Disk(RuleBasedStateMachine):
    """open_disk: makes one of so many bytes. block: bytes. forgets: it reads as zeroes for ever."""

    open_disk: ClassVar[Open]
    block: ClassVar[int]
    forgets: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.size = BLOCKS * self.block
        self.handler = type(self).open_disk(self.size)
        self.can: Capabilities = self.handler.capabilities()
        self.bytes = bytearray(self.size)

    def range(self, where: tuple[int, int]) -> tuple[int, int]:
        """In bytes, within the disk as long as it is now."""
        blocks = self.size // self.block
        first = where[0] % blocks
        count = 1 + where[1] % (blocks - first)
        return first * self.block, count * self.block

    def put(self, offset: int, content: bytes) -> None:
        if not self.forgets:
            self.bytes[offset : offset + len(content)] = content

    @initialize()
    def starts_as_zeroes(self) -> None:
        self.whole_disk_is_right()

    @rule(where=RANGES, cuts=CUTS)
    def read(self, where: tuple[int, int], cuts: list[int]) -> None:
        offset, length = self.range(where)
        into = pieces(b"\xee" * length, cuts)
        self.handler.read(into, offset)
        assert iov.gather(into) == self.bytes[offset : offset + length]

    @rule(where=RANGES, cuts=CUTS, seed=st.binary(min_size=1, max_size=7), durable=st.booleans())
    def write(self, where: tuple[int, int], cuts: list[int], seed: bytes, durable: bool) -> None:
        offset, length = self.range(where)
        content = (seed * (length // len(seed) + 1))[:length]
        store = self.handler.write_durable if durable else self.handler.write
        store(pieces(content, cuts), offset)
        self.put(offset, content)

    @precondition(lambda self: self.can.unmap)
    @rule(where=RANGES)
    def unmap(self, where: tuple[int, int]) -> None:
        offset, length = self.range(where)
        self.handler.unmap(offset, length)
        self.put(offset, bytes(length))

    @precondition(lambda self: self.can.write_zeroes)
    @rule(where=RANGES, unmap=st.booleans())
    def write_zeroes(self, where: tuple[int, int], unmap: bool) -> None:
        offset, length = self.range(where)
        self.handler.write_zeroes(offset, length, unmap=unmap)
        self.put(offset, bytes(length))

    @precondition(lambda self: self.can.flush)
    @rule()
    def flush(self) -> None:
        self.handler.flush()

    @precondition(lambda self: self.can.extents)
    @rule(where=RANGES)
    def extents(self, where: tuple[int, int]) -> None:
        offset, length = self.range(where)
        at = offset
        for extent in self.handler.extents(offset, length):
            assert extent.offset == at and extent.length > 0 and extent.length % self.block == 0
            at += extent.length
            assert extent.mapped or not self.bytes[extent.offset : at].strip(b"\0")
        assert at == offset + length

    @rule(blocks=st.integers(1, 2 * BLOCKS))
    def resize(self, blocks: int) -> None:
        self.handler.resize(blocks * self.block)
        self.size = blocks * self.block
        # What a smaller disk cut off is the handler's to keep or to forget: it is overwritten here.
        kept = self.bytes[: self.size]
        self.bytes = kept + bytearray(self.size - len(kept))
        if len(kept) < self.size:
            self.handler.write([memoryview(bytearray(self.size - len(kept)))], len(kept))

    @invariant()
    def whole_disk_is_right(self) -> None:
        into = bytearray(b"\xee" * self.size)
        self.handler.read([memoryview(into)], 0)
        assert into == self.bytes  # a memoryview would be compared byte by byte

    def teardown(self) -> None:
        self.handler.close()


def machine(open_disk: Open, block: int, *, forgets: bool = False) -> type[Disk]:
    """The state machine of one kind of disk."""
    return type("Disk", (Disk,), {"open_disk": staticmethod(open_disk), "block": block, "forgets": forgets})
