"""Positions of the fields that many commands share: LBA, number of blocks, length of parameter data.

Each position is stated once; the reader of the field, its bits in the CDB usage data (SPC-4 6.35.3), and CDBs
that we make ourselves are derived from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import cast

Blocks = Callable[[bytes], tuple[int, int]]
Span = tuple[int, int]  # first byte, number of bytes
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class CdbLayout:
    """size: bytes of the CDB. lba, count: LOGICAL BLOCK ADDRESS and the number of blocks. lba_bits: how many
    low bits of the LBA field are used. zero_count: how many blocks a count of 0 means.

    length: ALLOCATION LENGTH or PARAMETER LIST LENGTH, in bytes (SPC-5 4.2.5.6, 4.2.5.5); a number if the
    standard fixes it and the CDB has no such field.
    """

    size: int
    lba: Span | None = None
    count: Span | None = None
    length: Span | int | None = None
    lba_bits: int = 64
    zero_count: int = 0

    @property
    def mask(self) -> int:
        """All bits of the fields, in a CDB read as one big-endian number."""
        lba, count, length = map(_ones, (self.lba, self.count, self.length))
        return self.filled(lba & (1 << self.lba_bits) - 1, count, length)

    def _shifted(self, value: int, span: Span) -> int:
        return value << 8 * (self.size - sum(span))

    def reader(self) -> Blocks | None:
        """Reads (LBA, number of blocks); None if a CDB lacks one. Called for every READ and WRITE, so it is
        the bare method of a Struct, without a function around it, unless the layout needs one."""
        if self.lba is None or self.count is None:
            return None
        if self.lba_bits < 8 * self.lba[1] or self.zero_count:
            return self._read
        (lba, lba_size), (count, count_size) = self.lba, self.count
        gaps = lba, count - lba - lba_size, self.size - count - count_size
        layout = ">{}x{lba}{}x{count}{}x".format(*gaps, lba=_FORMATS[lba_size], count=_FORMATS[count_size])
        return cast("Blocks", Struct(layout).unpack)

    def _read(self, cdb: bytes) -> tuple[int, int]:
        assert self.count is not None
        return self.address(cdb), _number(cdb, self.count) or self.zero_count

    def address(self, cdb: bytes) -> int:
        """The LBA."""
        assert self.lba is not None, "this layout has no LBA"
        return _number(cdb, self.lba) & (1 << self.lba_bits) - 1

    def data_length(self, cdb: bytes) -> int | None:
        """The value of `length` in this CDB; None if the layout has no such field."""
        return _number(cdb, self.length) if isinstance(self.length, tuple) else self.length

    def filled(self, lba: int, count: int, length: int) -> int:
        """A CDB's bits with these values in the fields; a missing field accepts only 0."""
        bits = 0
        for value, span in ((lba, self.lba), (count, self.count), (length, self.length)):
            assert not value or isinstance(span, tuple), "the layout lacks this field"
            bits |= self._shifted(value, span) if isinstance(span, tuple) else 0
        return bits


def _ones(span: Span | int | None) -> int:
    """The largest value of a field; 0 without the field."""
    return (1 << 8 * span[1]) - 1 if isinstance(span, tuple) else 0


def _number(cdb: bytes, span: Span) -> int:
    at, size = span
    return int.from_bytes(cdb[at : at + size], "big")


BLOCKS_6 = CdbLayout(6, lba=(1, 3), count=(4, 1), lba_bits=21, zero_count=256)  # SBC-3 5.9
BLOCKS_10 = CdbLayout(10, lba=(2, 4), count=(7, 2))
BLOCKS_12 = CdbLayout(12, lba=(2, 4), count=(6, 4))
BLOCKS_16 = CdbLayout(16, lba=(2, 8), count=(10, 4))
NO_DATA_6, NO_DATA_10 = CdbLayout(6), CdbLayout(10)
DATA_6 = CdbLayout(6, length=(4, 1))
LONG_DATA_6 = CdbLayout(6, length=(3, 2))
DATA_10 = CdbLayout(10, length=(7, 2))
DATA_12 = CdbLayout(12, length=(6, 4))
DATA_16 = CdbLayout(16, length=(10, 4))
