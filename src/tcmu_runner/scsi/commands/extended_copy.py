"""EXTENDED COPY(LID1) (SPC-5 6.6): block to block, within a LUN, and to other LUNs where `peers` are lent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi import vpd, xcopy
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation, Plan, Read, Remote, Steps, Write
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.sense import (
    COPY_ABORTED,
    COPY_TARGET_NOT_REACHABLE,
    INCORRECT_COPY_TARGET_TYPE,
    INVALID_FIELD_IN_PARAMETER_LIST,
    OPERATION_IN_PROGRESS,
    PARAMETER_LIST_LENGTH_ERROR,
    TOO_MANY_CSCD_DESCRIPTORS,
    TOO_MANY_SEGMENT_DESCRIPTORS,
    UNSUPPORTED_CSCD_DESCRIPTOR,
    UNSUPPORTED_SEGMENT_DESCRIPTOR,
    WRITE_PROTECTED,
    ScsiError,
    Sense,
)
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.scsi.xcopy import COMPLETED, FAILED, IN_PROGRESS, CopyResults, Designator, Peer

HEADER = 16
CHUNK = 1 << 20  # bytes of one read and write
HOLD, NO_LIST = 0b00, 0b11  # LIST ID USAGE (SPC-5 table 129); 10b discards the results like 11b


class Segment(NamedTuple):
    """A block to block segment: source and destination are indices of CSCDs.

    counts_destination: of which of them the `blocks` are. length: bytes, of a segment that counts no blocks;
    source_byte, destination_byte: where it begins, in the blocks at the LBAs.
    """

    source: int
    destination: int
    source_lba: int
    destination_lba: int
    blocks: int = 0
    counts_destination: bool = False
    length: int | None = None
    source_byte: int = 0
    destination_byte: int = 0


class Header(NamedTuple):
    list_id: int
    usage: int
    cscds: int
    segments: int


def extended_copy(unit: Unit, command: Command) -> Plan:
    """Everything is checked before the first byte is copied."""
    size = command.data_length
    if size == 0:
        return None
    parameters = command.parameter_list(size)
    if len(parameters) < size or size < HEADER:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    header = _header(parameters)
    if HEADER + header.cscds + header.segments > size:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    segments_at = HEADER + header.cscds
    lists = parameters[HEADER:segments_at], parameters[segments_at : segments_at + header.segments]
    descriptors = _split(lists[0], xcopy.CSCD_SIZES, UNSUPPORTED_CSCD_DESCRIPTOR)
    copies = _split(lists[1], xcopy.SEGMENT_SIZES, UNSUPPORTED_SEGMENT_DESCRIPTOR)
    if len(descriptors) > xcopy.MAX_CSCD_DESCRIPTORS:
        raise ScsiError(TOO_MANY_CSCD_DESCRIPTORS)
    if len(copies) > xcopy.MAX_SEGMENT_DESCRIPTORS:
        raise ScsiError(TOO_MANY_SEGMENT_DESCRIPTORS)
    devices = [_cscd(unit, command, descriptor) for descriptor in descriptors]
    segments = [_segment(descriptor) for descriptor in copies]
    _check_unused(unit, command, header)
    return _copy_all(unit, command, header, devices, segments)


def _header(parameters: bytes) -> Header:
    """SPC-5 table 128."""
    usage = parameters[1] >> 3 & 0b11
    header = Header(
        parameters[0], usage, int.from_bytes(parameters[2:4], "big"), int.from_bytes(parameters[8:12], "big")
    )
    if usage == 0b01 or (usage == NO_LIST and header.list_id):
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(1 if usage == 0b01 else 0, in_cdb=False))
    if any(parameters[12:16]):
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(12, in_cdb=False))  # no inline data
    if header.cscds + header.segments > xcopy.MAX_DESCRIPTORS_LENGTH:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    return header


def _split(data: bytes, sizes: Mapping[int, int], unsupported: Sense) -> list[bytes]:
    """Splits descriptors of known types; the length of an unknown type is unknown, so it ends the list."""
    descriptors, at = [], 0
    while at < len(data):
        if data[at] not in sizes:
            raise ScsiError(unsupported)
        descriptors.append(data[at : at + sizes[data[at]]])
        at += sizes[data[at]]
    if at > len(data):
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    return descriptors


def _cscd(unit: Unit, command: Command, descriptor: bytes) -> Peer | None:
    """The LUN that an identification descriptor names (SPC-5 table 136), None without one. LU ID TYPE has no
    meaning in this kind of descriptor."""
    if descriptor[1] & 0x20 or descriptor[7] > 20:
        return None  # NUL: a null device
    name = Designator(descriptor[4] & 0x0F, descriptor[5] & 0x3F, descriptor[8 : 8 + descriptor[7]])
    if name in vpd.designators(unit):
        return _of_block_length(Peer(unit, command.nexus), descriptor)
    peer = unit.peers(command.nexus, name) if unit.peers is not None else None
    return _of_block_length(peer, descriptor) if peer is not None else None


def _of_block_length(peer: Peer, descriptor: bytes) -> Peer:
    told = int.from_bytes(descriptor[29:32], "big")
    if descriptor[1] & 0x1F or told not in (0, peer.unit.block_size):
        raise ScsiError(INCORRECT_COPY_TARGET_TYPE)
    return peer


def _segment(descriptor: bytes) -> Segment:
    """SPC-5 table 147, and SPC-4 6.4.6.12 for the one with offsets in bytes."""

    def field(at: int, size: int) -> int:
        return int.from_bytes(descriptor[at : at + size], "big")

    if field(2, 2) != len(descriptor) - 4:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(2, in_cdb=False))
    ends = field(4, 2), field(6, 2), field(12, 8), field(20, 8)
    if descriptor[0] == xcopy.BLOCK_TO_BLOCK:
        return Segment(*ends, field(10, 2), bool(descriptor[1] & 0x02))
    if field(8, 4) > xcopy.MAX_SEGMENT_LENGTH:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(8, in_cdb=False))
    return Segment(*ends, length=field(8, 4), source_byte=field(28, 2), destination_byte=field(30, 2))


class Copying(NamedTuple):
    """A resolved segment: bytes from one unit to one unit."""

    source: Unit
    destination: Unit
    source_offset: int
    destination_offset: int
    length: int


def _resolve(segment: Segment, devices: list[Peer | None]) -> Copying:
    """A segment's errors end the command in COPY ABORTED (SPC-5 6.6.1)."""
    source, destination = _device(segment.source, devices), _device(segment.destination, devices)
    source.unit.check_access(source.nexus, Access.READS)
    destination.unit.check_access(destination.nexus, Access.WRITES)
    if destination.unit.read_only:
        raise ScsiError(WRITE_PROTECTED)
    counted = destination if segment.counts_destination else source
    copy = Copying(
        source.unit,
        destination.unit,
        segment.source_lba * source.unit.block_size + segment.source_byte,
        segment.destination_lba * destination.unit.block_size + segment.destination_byte,
        segment.blocks * counted.unit.block_size if segment.length is None else segment.length,
    )
    if not _fits(copy, in_blocks=segment.length is None):
        raise ScsiError(COPY_ABORTED)
    return copy


def _device(index: int, devices: list[Peer | None]) -> Peer:
    peer = devices[index] if index < len(devices) else None
    if peer is None or not peer.unit.medium.ready:
        raise ScsiError(COPY_TARGET_NOT_REACHABLE)
    return peer


def _fits(copy: Copying, *, in_blocks: bool) -> bool:
    sizes = copy.source.block_size, copy.destination.block_size
    return (
        copy.source_offset + copy.length <= copy.source.size
        and copy.destination_offset + copy.length <= copy.destination.size
        and not (in_blocks and any(copy.length % size for size in sizes))
    )


def _copy_all(
    unit: Unit, command: Command, header: Header, devices: list[Peer | None], segments: list[Segment]
) -> Steps:
    """Copies all segments; keeps the results, also intermediate ones, if the initiator wants them."""
    results = CopyResults(IN_PROGRESS, 0, 0)
    status = FAILED
    try:
        for segment in segments:
            _hold(unit, command, header, results)
            copy = _resolve(segment, devices)
            yield from _copy(unit, copy)
            results = CopyResults(IN_PROGRESS, results.segments + 1, results.transferred + copy.length)
        status = COMPLETED
    finally:
        _hold(unit, command, header, results._replace(status=status))


def _check_unused(unit: Unit, command: Command, header: Header) -> None:
    """A list identifier names one copy at a time (SPC-5 6.6.1)."""
    held = unit.copies.get((command.nexus, header.list_id))
    if header.usage != NO_LIST and held is not None and held.status == IN_PROGRESS:
        raise ScsiError(OPERATION_IN_PROGRESS)


def _hold(unit: Unit, command: Command, header: Header, results: CopyResults) -> None:
    """Keeps results until they are read; without room it discards the nexus's oldest ones."""
    if header.usage != HOLD:
        return
    unit.copies.pop((command.nexus, header.list_id), None)
    mine = [key for key in unit.copies if key[0] is command.nexus]
    if len(mine) >= xcopy.HELD_LISTS:
        del unit.copies[mine[0]]
    unit.copies[command.nexus, header.list_id] = results
    unit.remember()


def _copy(unit: Unit, copy: Copying) -> Steps:
    """Copies in chunks; from the end if the destination overlaps source that is still to be read."""
    scratch = iov.allocate(min(CHUNK, copy.length) + 2 * copy.source.block_size)
    starts = range(0, copy.length, CHUNK)
    for at in reversed(starts) if _overwrites_source(copy) else starts:
        source, length = copy.source_offset + at, min(CHUNK, copy.length - at)
        first, size = _whole_blocks(copy.source, source, length)
        blocks = iov.cut(scratch, 0, size)
        yield _on(unit, copy.source, Read(first, blocks))
        data = iov.cut(blocks, source - first, length)
        yield from _store(unit, copy.destination, copy.destination_offset + at, data)


def _store(unit: Unit, to: Unit, offset: int, data: Buffers) -> Steps:
    """Writes bytes; keeps the other bytes of the first and last block."""
    length = iov.length(data)
    first, size = _whole_blocks(to, offset, length)
    if size != length:
        blocks = iov.allocate(size)
        yield _on(unit, to, Read(first, blocks))
        iov.scatter(iov.cut(blocks, offset - first, length), iov.gather(data))
        data = blocks
    yield _on(unit, to, Write(first, data, not to.mode.write_cache))


def _whole_blocks(unit: Unit, offset: int, length: int) -> tuple[int, int]:
    """Offset and length of the blocks that contain these bytes."""
    first = offset // unit.block_size * unit.block_size
    return first, -(-(offset + length) // unit.block_size) * unit.block_size - first


def _overwrites_source(copy: Copying) -> bool:
    ahead = copy.destination_offset - copy.source_offset
    return copy.source is copy.destination and 0 < ahead < copy.length


def _on(unit: Unit, other: Unit, operation: Read | Write) -> Operation:
    return operation if other is unit else Remote(other, operation)
