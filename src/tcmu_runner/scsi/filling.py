"""Fills ranges of the medium, in pieces small enough that other commands get a turn in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.scsi.operations import Flush, Steps, Unmap, Write, WriteSame, WriteZeroes

if TYPE_CHECKING:
    from tcmu_runner.scsi.unit import Unit

CHUNK = 1 << 20  # bytes of one write of a repeated pattern
STRIDE = 1 << 26  # bytes of one operation that zeroes or unmaps


def fill(unit: Unit, offset: int, length: int, block: bytes) -> Steps:
    """Writes one block repeatedly over the range, by WriteSame if the storage has it."""
    fua = not unit.mode.write_cache
    if not unit.capabilities.write_same:
        yield from repeat(offset, length, block, fua=fua)
        return
    for at in range(offset, offset + length, STRIDE):
        yield WriteSame(at, min(STRIDE, offset + length - at), block, fua)


def repeat(offset: int, length: int, block: bytes, *, fua: bool) -> Steps:
    """Writes one block repeatedly over the range."""
    chunk = memoryview(bytearray(block * (min(CHUNK, length) // len(block))))
    end = offset + length
    while offset < end:
        piece = chunk[: end - offset]
        yield Write(offset, [piece], fua)
        offset += len(piece)


def clear(unit: Unit, offset: int, length: int, *, unmap: bool) -> Steps:
    """Makes the range zeroes, by an operation of the storage if it has one, else by writing. unmap: the space
    may be freed, if unmapped blocks read as zeroes."""
    fua, can = not unit.mode.write_cache, unit.capabilities
    by_unmapping = unmap and can.unmap_reads_zero
    if not can.write_zeroes and not by_unmapping:
        yield from repeat(offset, length, bytes(unit.block_size), fua=fua)
        return
    end = offset + length
    while offset < end:
        size = min(STRIDE, end - offset)
        yield WriteZeroes(offset, size, unmap, fua) if can.write_zeroes else Unmap(offset, size)
        offset += size
    if fua and can.flush and not can.write_zeroes:
        yield Flush()
