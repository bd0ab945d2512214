"""READ, WRITE, ORWRITE, WRITE ATOMIC, SYNCHRONIZE CACHE and PRE-FETCH (SBC-4 5.10, 5.13 to 5.19, 5.33, 5.34,
5.40 to 5.43, 5.48)."""

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Flush, Plan, Read, Steps, Write
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.table import Run
from tcmu_runner.scsi.unit import FUA, Unit

CHUNK = 1 << 20  # bytes looked at in one read
PREFETCH = 8 << 20  # bytes that a PRE-FETCH reads at most; the size of caches below is unknown


def data_out(command: Command, length: int) -> Buffers:
    """The `length` bytes of a write. Refuses fewer: the buffers' length comes from the transport, not from
    the CDB."""
    if iov.length(command.data) < length:
        raise ScsiError(INVALID_FIELD_IN_CDB)
    return iov.cut(command.data, 0, length)


def _read_of(fua: int) -> Run:
    """The function of a READ. fua: the mask of FUA in byte 1, if it has one."""

    def read(unit: Unit, command: Command) -> Plan:
        offset, length = unit.transfer(command)
        flush_first = command.cdb[1] & fua and unit.mode.write_cache
        into = command.data
        room = len(into[0]) if len(into) == 1 else iov.length(into)
        if room == length and not flush_first:
            command.returned = length
            return Read(offset, into) if length else None
        return _read_with_care(unit, command, offset, length, flush_first=bool(flush_first))

    return read


def _read_with_care(unit: Unit, command: Command, offset: int, length: int, *, flush_first: bool) -> Steps:
    """For a buffer of another length than the CDB's, or FUA with a write cache."""
    if flush_first:
        yield Flush()  # SBC-4 table 69: FUA reads what is on the medium, so the cache goes there first
    room = iov.length(command.data)
    wanted = min(room, length)
    whole = wanted // unit.block_size * unit.block_size
    command.returned = wanted
    if whole:
        yield Read(offset, iov.cut(command.data, 0, whole))
    if whole < wanted:
        block = iov.allocate(unit.block_size)
        yield Read(offset + whole, block)
        iov.scatter(iov.cut(command.data, whole, wanted - whole), iov.gather(block)[: wanted - whole])


def _write_with_care(unit: Unit, command: Command, offset: int, length: int, *, fua: bool) -> Plan:
    """For data of another length than the CDB's."""
    data = command.data
    sent = iov.length(data)
    if sent > length:
        return Write(offset, iov.cut(data, 0, length), fua) if length else None
    if not unit.tells_residuals:
        raise ScsiError(INVALID_FIELD_IN_CDB)  # else the initiator would believe that all is stored
    return write_short(unit, offset, data, fua=fua)


def write_short(unit: Unit, offset: int, data: Buffers, *, fua: bool) -> Steps:
    """Writes all that was sent; the transport reports the residual count (RFC 7143 11.4.5.1)."""
    sent = iov.length(data)
    whole = sent // unit.block_size * unit.block_size
    if whole:
        yield Write(offset, iov.cut(data, 0, whole), fua)
    if whole < sent:
        block = iov.allocate(unit.block_size)
        yield Read(offset + whole, block)
        iov.scatter(block, iov.gather(iov.cut(data, whole, sent - whole)))
        yield Write(offset + whole, block, fua)


def _write_of(fua: int) -> Run:
    """The function of a WRITE. fua: the mask of FUA in byte 1, if it has one."""

    def write(unit: Unit, command: Command) -> Plan:
        offset, length = unit.transfer(command)
        forced = bool(command.cdb[1] & fua) or not unit.mode.write_cache
        data = command.data
        sent = len(data[0]) if len(data) == 1 else iov.length(data)
        if sent == length:
            return Write(offset, data, forced) if length else None
        return _write_with_care(unit, command, offset, length, fua=forced)

    return write


def orwrite(unit: Unit, command: Command) -> Plan:
    """Sets the bits of the data in the blocks."""
    offset, length = unit.transfer(command)
    data = data_out(command, length)
    return _set_bits(offset, data, fua=unit.writes_through(command)) if length else None


def _set_bits(offset: int, data: Buffers, *, fua: bool) -> Steps:
    bits = iov.gather(data)
    blocks = iov.allocate(len(bits))
    yield Read(offset, blocks)
    both = int.from_bytes(iov.gather(blocks), "big") | int.from_bytes(bits, "big")
    iov.scatter(blocks, both.to_bytes(len(bits), "big"))
    yield Write(offset, blocks, fua)


def write_atomic(unit: Unit, command: Command) -> Plan:
    """Atomicity is the storage's own promise (SBC-4 4.29). The row refuses ATOMIC BOUNDARY."""
    offset, length = unit.extent_within(command, unit.limits.max_atomic)
    data = data_out(command, length)
    return Write(offset, data, unit.writes_through(command)) if length else None


def synchronize_cache(unit: Unit, command: Command) -> Plan:
    """Flushes the whole cache, whatever the range; IMMED does not end it earlier. Accepts SYNC_NV of older
    standards: no cache survives a power loss."""
    unit.extent(command)
    return Flush() if unit.capabilities.flush else None


def prefetch(unit: Unit, command: Command) -> Steps:
    """Reads the blocks, so that caches below have them. Ends in GOOD, not CONDITION MET: caches may not keep
    all of them (SBC-4 5.13). A count of 0 means up to the end of the medium."""
    offset, length = unit.extent(command)
    length = min(length or unit.size - offset, PREFETCH)
    return look_at(offset, length)


def look_at(offset: int, length: int) -> Steps:
    """Reads a range and drops the data."""
    scratch = iov.allocate(min(CHUNK, length))
    end = offset + length
    while offset < end:
        yield Read(offset, iov.cut(scratch, 0, end - offset))
        offset += min(CHUNK, end - offset)


read, read_6 = _read_of(FUA), _read_of(0)
write, write_6 = _write_of(FUA), _write_of(0)
