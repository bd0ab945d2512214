"""READ CAPACITY(10) and (16) (SBC-4 5.20, 5.21)."""

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.unit import Unit

PMI = 0x01


def read_capacity_10(unit: Unit, command: Command) -> None:
    """LOGICAL BLOCK ADDRESS and PMI are obsolete. SBC-2 5.10.1 refuses an address without PMI, which LIO does
    and programs check. With PMI the last block is the answer, since all blocks are equally fast."""
    if command.lba and not command.cdb[8] & PMI:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    last = min(unit.blocks - 1, 0xFFFFFFFF)  # FFFFFFFFh: ask with READ CAPACITY(16)
    command.reply(last.to_bytes(4, "big") + unit.block_size.to_bytes(4, "big"))


def read_capacity_16(unit: Unit, command: Command) -> None:
    data = bytearray(32)
    data[0:8] = (unit.blocks - 1).to_bytes(8, "big")
    data[8:12] = unit.block_size.to_bytes(4, "big")
    data[13] = unit.limits.physical_exponent
    if unit.capabilities.unmap:
        data[14] = 0x80 | (0x40 if unit.capabilities.unmap_reads_zero else 0)  # LBPME, LBPRZ
    command.reply(bytes(data))
