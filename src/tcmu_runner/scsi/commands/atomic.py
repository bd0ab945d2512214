"""COMPARE AND WRITE, ORWRITE and WRITE ATOMIC (SBC-4 5.3, 5.10, 5.48): all or nothing.

That no other command touches their blocks meanwhile is what `exclusive` in their rows asks of the engine.
"""

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.commands.transfer import data_out, through
from tcmu_runner.scsi.commands.verification import compare
from tcmu_runner.scsi.operations import CompareAndWrite, Plan, Read, Steps, Write
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, MISCOMPARE, ScsiError
from tcmu_runner.scsi.unit import Unit


def compare_and_write(unit: Unit, command: Command) -> Plan:
    """The data is twice as long as the blocks: what must be there, then what shall be there. Where it is not
    so, nobody can tell the one from the other."""
    offset, length = unit.extent(command)
    limits = unit.limits
    if length > limits.within_transfer(limits.max_compare_and_write) * unit.block_size:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(13))
    if iov.length(command.data) != 2 * length:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(13))
    if not length:
        return None
    expected, replacement = iov.cut(command.data, 0, length), iov.cut(command.data, length, length)
    return _compare_then_write(unit, offset, expected, replacement, fua=through(unit, command))


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
    offset, length = unit.extent(command)
    unit.check_transfer(length // unit.block_size)
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
    """The storage's own promise (SBC-4 4.29), offered where it makes it. ATOMIC BOUNDARY is not supported,
    and refused by the row's mask."""
    offset, length = unit.extent(command)
    limits = unit.limits
    if length > limits.within_transfer(limits.max_atomic) * unit.block_size:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(12))
    data = data_out(command, length)
    return Write(offset, data, through(unit, command)) if length else None
