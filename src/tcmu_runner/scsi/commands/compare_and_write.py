"""COMPARE AND WRITE, ORWRITE and WRITE ATOMIC (SBC-4 5.3, 5.10, 5.48): all or nothing.

Their rows' `exclusive` has the engine keep other commands off their blocks meanwhile.
"""

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.commands.read_write import data_out, through
from tcmu_runner.scsi.commands.verification import compare
from tcmu_runner.scsi.operations import CompareAndWrite, Plan, Read, Steps, Write
from tcmu_runner.scsi.sense import MISCOMPARE, ScsiError
from tcmu_runner.scsi.unit import Unit


def compare_and_write(unit: Unit, command: Command) -> Plan:
    """Data-Out is the compare half, then the write half, each NUMBER OF LOGICAL BLOCKS long (SBC-4 5.3). Data
    of another length cannot be split into halves: refused."""
    offset, length = unit.extent(command)
    limits = unit.limits
    if length > limits.within_transfer(limits.max_compare_and_write) * unit.block_size:
        raise command.wrong_count()
    if iov.length(command.data) != 2 * length:
        raise command.wrong_count()
    if not length:
        return None
    expected, replacement = iov.cut(command.data, 0, length), iov.cut(command.data, length, length)
    return _compare_then_write(unit, offset, expected, replacement, fua=through(unit, command))


def blocks_sent(_cdb: bytes, count: int) -> int:
    """The data of a COMPARE AND WRITE: each block twice (SBC-4 5.3)."""
    return 2 * count


def _compare_then_write(
    unit: Unit, offset: int, expected: Buffers, replacement: Buffers, *, fua: bool
) -> Steps:
    if unit.capabilities.compare_and_write:
        both = CompareAndWrite(offset, expected, replacement, fua)
        yield both
        if both.mismatch is not None:
            raise ScsiError(MISCOMPARE.with_information(both.mismatch))
        return
    yield from compare(unit, offset, expected)
    yield Write(offset, replacement, fua)


def orwrite(unit: Unit, command: Command) -> Plan:
    """Sets the bits of the data in the blocks."""
    offset, length = unit.transfer(command)
    data = data_out(command, length)
    return _set_bits(offset, data, fua=through(unit, command)) if length else None


def _set_bits(offset: int, data: Buffers, *, fua: bool) -> Steps:
    bits = iov.gather(data)
    blocks = iov.allocate(len(bits))
    yield Read(offset, blocks)
    both = int.from_bytes(iov.gather(blocks), "big") | int.from_bytes(bits, "big")
    iov.scatter(blocks, both.to_bytes(len(bits), "big"))
    yield Write(offset, blocks, fua)


def write_atomic(unit: Unit, command: Command) -> Plan:
    """Atomicity is the storage's own promise (SBC-4 4.29). The row refuses ATOMIC BOUNDARY."""
    offset, length = unit.extent(command)
    limits = unit.limits
    if length > limits.within_transfer(limits.max_atomic) * unit.block_size:
        raise command.wrong_count()
    data = data_out(command, length)
    return Write(offset, data, through(unit, command)) if length else None
