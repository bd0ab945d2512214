"""Commands that compare data with the medium: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE (SBC-4 5.36 ff.,
5.44 ff., 5.3).

`exclusive` in the rows of the last two has the engine keep other commands off their blocks meanwhile.
"""

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.commands.read_write import CHUNK, data_out, look_at, write_short
from tcmu_runner.scsi.operations import CompareAndWrite, Plan, Read, Steps, Write
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, MISCOMPARE, ScsiError
from tcmu_runner.scsi.unit import Unit

MEDIUM, ALL_DATA, ONE_BLOCK = 0b00, 0b01, 0b11  # BYTCHK (SBC-4 table 142)


def _bytchk(cdb: bytes) -> int:
    return cdb[1] >> 1 & 0b11


def blocks_sent(cdb: bytes, count: int) -> int:
    """Blocks of data of a VERIFY, by BYTCHK (SBC-4 5.36): all, one for all, or none."""
    return {ALL_DATA: count, ONE_BLOCK: min(count, 1)}.get(_bytchk(cdb), 0)


def verify(unit: Unit, command: Command) -> Plan:
    """Reads the blocks, or compares them with the data, or each of them with the one block that was sent."""
    offset, length = unit.extent(command)
    check = _bytchk(command.cdb)
    if check == MEDIUM:
        return look_at(offset, length)
    if check not in (ALL_DATA, ONE_BLOCK):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 2))
    if not length:
        return None
    if check == ONE_BLOCK:
        block = iov.gather(data_out(command, unit.block_size))
        return _compare_with_one_block(offset, length, block)
    unit.transfer(command)
    return compare(unit, offset, data_out(command, length))


def compare(unit: Unit, offset: int, data: Buffers) -> Steps:
    """MISCOMPARE, with the offset in the data of the first byte that differs from the medium. The data may
    end within a block."""
    for at in range(0, iov.length(data), CHUNK):
        expected = iov.gather(iov.cut(data, at, CHUNK))
        found = bytearray(-(-len(expected) // unit.block_size) * unit.block_size)
        yield Read(offset + at, [memoryview(found)])
        _check_equal(found, expected, at)


def _compare_with_one_block(offset: int, length: int, block: bytes) -> Steps:
    blocks = block * (min(CHUNK, length) // len(block))
    for at in range(0, length, len(blocks)):
        expected = blocks[: length - at]
        found = bytearray(len(expected))
        yield Read(offset + at, [memoryview(found)])
        _check_equal(found, expected, at)


def _check_equal(found: bytearray, expected: bytes, at: int) -> None:
    """What was found may be longer. at: where `expected` is in all that is compared."""
    if not found.startswith(expected):
        difference = iov.first_difference(bytes(found[: len(expected)]), expected)
        assert difference is not None
        raise ScsiError(MISCOMPARE.with_information(at + difference))


def write_and_verify(unit: Unit, command: Command) -> Steps:
    """Writes, then reads again; with BYTCHK 01b compares. The write goes to stable storage, since that is
    what has to be verified."""
    offset, length = unit.transfer(command)
    check = _bytchk(command.cdb)
    if check not in (MEDIUM, ALL_DATA):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 2))
    data = iov.cut(command.data, 0, length)
    if iov.length(data) < length and not unit.tells_residuals:
        raise ScsiError(INVALID_FIELD_IN_CDB)
    return _write_and_verify(unit, offset, data, compares=check == ALL_DATA)


def _write_and_verify(unit: Unit, offset: int, data: Buffers, *, compares: bool) -> Steps:
    yield from write_short(unit, offset, data, fua=True)
    if compares:
        yield from compare(unit, offset, data)
    else:
        yield from look_at(offset, iov.length(data) // unit.block_size * unit.block_size)


def compare_and_write(unit: Unit, command: Command) -> Steps:
    """Data-Out is the compare half, then the write half, each NUMBER OF LOGICAL BLOCKS long (SBC-4 5.3). Data
    of another length cannot be split into halves: refused."""
    offset, length = unit.extent_within(command, unit.limits.max_compare_and_write)
    fua = unit.writes_through(command)
    if iov.length(command.data) != 2 * length:
        raise command.wrong_count()
    if not length:
        return
    expected, replacement = iov.cut(command.data, 0, length), iov.cut(command.data, length, length)
    if unit.capabilities.compare_and_write:
        both = CompareAndWrite(offset, expected, replacement, fua)
        yield both
        if both.mismatch is not None:
            raise ScsiError(MISCOMPARE.with_information(both.mismatch))
        return
    wanted, found = iov.gather(expected), bytearray(length)  # one Read: the count is one byte
    yield Read(offset, [memoryview(found)])
    _check_equal(found, wanted, 0)
    yield Write(offset, replacement, fua)


def both_halves(_cdb: bytes, count: int) -> int:
    """The data of a COMPARE AND WRITE: each block twice (SBC-4 5.3)."""
    return 2 * count
