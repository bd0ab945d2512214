"""UNMAP and WRITE SAME (SBC-4 5.39, 5.52, 5.53)."""

from collections.abc import Iterator

from tcmu_runner import iov
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.commands.transfer import data_out
from tcmu_runner.scsi.operations import Steps, Unmap, Write, WriteZeroes
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

CHUNK = 1 << 20  # bytes written at once where a pattern is repeated


def unmap(unit: Unit, command: Command) -> Steps:
    """Every descriptor is checked before the first byte is unmapped."""
    for offset, length in list(_unmap_ranges(unit, command)):
        yield Unmap(offset, length)


def _unmap_ranges(unit: Unit, command: Command) -> Iterator[tuple[int, int]]:
    size = command.field(7, 2)
    if size == 0:
        return
    parameters = command.parameter_list(size)
    if len(parameters) < size or size < 8:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    count = min(int.from_bytes(parameters[2:4], "big"), size - 8) // 16
    if count > unit.limits.max_unmap_descriptors:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(2, in_cdb=False))
    total = 0
    for at in range(8, 8 + 16 * count, 16):
        lba = int.from_bytes(parameters[at : at + 8], "big")
        blocks = int.from_bytes(parameters[at + 8 : at + 12], "big")
        total += blocks
        if total > unit.limits.max_unmap:
            raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(at + 8, in_cdb=False))
        offset, length = unit.byte_range(lba, blocks)
        if length:
            yield offset, length


def write_same(unit: Unit, command: Command) -> Steps:
    """One block, or zeroes with NDOB, again and again over the range."""
    wants_unmap = bool(command.cdb[1] & 0x08)
    if wants_unmap and not unit.capabilities.unmap:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 3))
    offset, length = unit.extent(command)
    if not 0 < length <= unit.limits.max_write_same * unit.block_size:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(10 if len(command.cdb) == 16 else 7))
    without_data = len(command.cdb) == 16 and command.cdb[1] & 0x01
    block = bytes(unit.block_size) if without_data else iov.gather(data_out(unit, command, unit.block_size))
    if any(block):
        return _repeat(offset, length, block, fua=not unit.mode.write_cache)
    return write_zeroes(unit, offset, length, unmap=wants_unmap)


def write_zeroes(unit: Unit, offset: int, length: int, *, unmap: bool) -> Steps:
    """By the storage's own means where it has any, else by writing zeroes."""
    fua = not unit.mode.write_cache
    if unit.capabilities.write_zeroes:
        yield WriteZeroes(offset, length, unmap, fua)
    elif unmap and unit.capabilities.unmap_reads_zero:
        yield Unmap(offset, length)
    else:
        yield from _repeat(offset, length, bytes(unit.block_size), fua=fua)


def _repeat(offset: int, length: int, block: bytes, *, fua: bool) -> Steps:
    chunk = memoryview(bytearray(block * (min(CHUNK, length) // len(block))))
    end = offset + length
    while offset < end:
        piece = chunk[: end - offset]
        yield Write(offset, [piece], fua)
        offset += len(piece)
