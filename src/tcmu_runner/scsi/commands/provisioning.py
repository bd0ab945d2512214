"""UNMAP, WRITE SAME and GET LBA STATUS (SBC-4 5.6, 5.35, 5.52, 5.53).

`fill` and `clear` fill ranges of the medium, in pieces small enough that other commands get a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tcmu_runner import iov
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Extents, Flush, Steps, Unmap, Write, WriteSame, WriteZeroes
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    LBA_OUT_OF_RANGE,
    PARAMETER_LIST_LENGTH_ERROR,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

WINDOW, WINDOWS = 1 << 30, 256  # bytes of one Extents operation, and how many of them per command
NDOB = 0x01
MAPPED, DEALLOCATED = 0x0, 0x1  # PROVISIONING STATUS (SBC-4 table 63)
CHUNK = 1 << 20  # bytes of one write of a repeated pattern
STRIDE = 1 << 26  # bytes of one operation that zeroes or unmaps


def unmap(unit: Unit, command: Command) -> Steps:
    """Checks every descriptor before the first byte is unmapped. Without a write cache, unmapped bytes have
    to stay so after a power loss."""
    for offset, length in list(_unmap_ranges(unit, command)):
        for at in range(offset, offset + length, STRIDE):
            yield Unmap(at, min(STRIDE, offset + length - at))
    if unit.capabilities.flush and not unit.mode.write_cache:
        yield Flush()


def _unmap_ranges(unit: Unit, command: Command) -> Iterator[tuple[int, int]]:
    size = command.data_length
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
    """Writes one block, or zeroes with NDOB, repeatedly over the range; unmaps blocks only if they then read
    as that block. The row refuses ANCHOR (ANC_SUP is clear)."""
    wants_unmap = bool(command.cdb[1] & 0x08)
    if wants_unmap and not unit.capabilities.unmap:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 3))
    offset, length = unit.extent(command)
    if not length and unit.limits.write_same_to_end:
        length = unit.size - offset
    if not 0 < length <= unit.limits.max_write_same * unit.block_size:
        raise command.wrong_count()
    block = _one_block(unit, command) if blocks_sent(command.cdb, 0) else bytes(unit.block_size)
    if block.count(0) < len(block):
        return fill(unit, offset, length, block)
    return clear(unit, offset, length, unmap=wants_unmap)


def blocks_sent(cdb: bytes, _count: int) -> int:
    """The data of a WRITE SAME: one block (SBC-4 5.52), or none with NDOB, which only the long CDB has."""
    return 0 if len(cdb) == 16 and cdb[1] & NDOB else 1


def _one_block(unit: Unit, command: Command) -> bytes:
    """Refuses data of another length: the initiator assumes another block size or command."""
    if iov.length(command.data) != unit.block_size:
        raise ScsiError(INVALID_FIELD_IN_CDB)
    return iov.gather(command.data)


def get_lba_status(unit: Unit, command: Command) -> Steps:
    """LBA status descriptors from STARTING LBA on, as many as the initiator has room for, at least one. The
    row refuses every REPORT TYPE but that for all descriptors."""
    lba = command.lba
    if lba >= unit.blocks:
        raise ScsiError(LBA_OUT_OF_RANGE.with_information(lba))
    return _report_runs(unit, command, lba)


class Run(NamedTuple):
    """Consecutive blocks in one provisioning state."""

    lba: int
    blocks: int
    mapped: bool


def _report_runs(unit: Unit, command: Command, lba: int) -> Steps:
    """Reads extents in windows, and only WINDOWS of them: one answer cannot hold a large sparse disk."""
    most = max(1, (command.data_length - 8) // 16)
    runs: list[Run] = []
    for _ in range(WINDOWS):
        window = Extents(lba * unit.block_size, min(WINDOW, unit.size - lba * unit.block_size))
        yield window
        for run in _runs(window, unit.block_size):
            _join(runs, run)
        lba += window.length // unit.block_size
        if lba == unit.blocks or len(runs) > most:
            break
    command.reply(_lba_status(runs[:most], _completion(unit, lba, runs, most)))


def _runs(window: Extents, block_size: int) -> Iterator[Run]:
    """A block counts as deallocated only if all of it is in a hole. Extents outside of the window are cut."""
    at = window.offset // block_size
    end = (window.offset + window.length) // block_size
    for extent in window.found:
        if extent.mapped:
            continue
        hole = max(at, -(-extent.offset // block_size))
        hole_end = min(end, (extent.offset + extent.length) // block_size)
        if hole < hole_end:
            yield Run(at, hole - at, mapped=True)
            yield Run(hole, hole_end - hole, mapped=False)
            at = hole_end
    yield Run(at, end - at, mapped=True)


def _join(runs: list[Run], run: Run) -> None:
    """Appends a run; merges it with the last one of equal state, up to the count that the field can hold."""
    if not run.blocks:
        return
    if runs and runs[-1].mapped == run.mapped and runs[-1].blocks + run.blocks <= 0xFFFFFFFF:
        last = runs.pop()
        run = Run(last.lba, last.blocks + run.blocks, run.mapped)
    runs.append(run)


def _completion(unit: Unit, lba: int, runs: list[Run], most: int) -> int:
    """COMPLETION CONDITION (SBC-4 table 61): no room is left, the medium ends, or neither."""
    if len(runs) > most:
        return 0b001
    return 0b011 if lba == unit.blocks else 0b000


def _lba_status(runs: list[Run], completion: int) -> bytes:
    """SBC-4 tables 60 and 62."""
    body = b"".join(
        run.lba.to_bytes(8, "big")
        + run.blocks.to_bytes(4, "big")
        + bytes((MAPPED if run.mapped else DEALLOCATED, 0, 0, 0))
        for run in runs
    )
    return (len(body) + 4).to_bytes(4, "big") + bytes((0, 0, 0, completion << 1)) + body


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
