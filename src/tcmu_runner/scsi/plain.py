"""Recognizes plain READ and WRITE, which are nearly all commands of a disk, faster than Unit.begin would.

Unit.begin would accept each command that `plain` accepts, and return one Read or Write of all its buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.scsi.commands import read_write
from tcmu_runner.scsi.opcodes import DISK

if TYPE_CHECKING:
    from tcmu_runner.scsi.table import Row
    from tcmu_runner.scsi.unit import Unit

# By opcode: the row, its reader of LBA and count, and the mask of all bits beside opcode, LBA and count.
_PLAIN = {
    row.opcode: (row, row.blocks, (1 << 8 * (row.layout.size - 1)) - 1 & ~row.layout.mask)
    for row in DISK
    if row.run in (read_write.read, read_write.write) and row.blocks is not None
}


def undisturbed(unit: Unit) -> bool:
    """Whether the unit has no reservation, unit attention or medium state that READ and WRITE have to
    respect.

    An earlier command of a batch may change the answer; plain ones do not.
    """
    held = unit.reservations
    if held is not None and (held.type is not None or held.reserved_by is not None):
        return False
    for nexus in unit.nexuses:  # any() costs twice as much
        if nexus.attentions:
            return False
    return unit.medium.ready


def plain(unit: Unit, cdb: bytes, length: int) -> tuple[Row, int] | None:
    """The row and the offset in bytes of a plain READ or WRITE of an undisturbed unit. length: of its
    buffers.

    None for any other command, one with a flag set, with buffers of another length than in the CDB, or that
    fails.
    """
    found = _PLAIN.get(cdb[0])
    if found is None:
        return None
    row, blocks, others = found
    lba, count = blocks(cdb)
    block_size = unit.block_size
    offset = lba * block_size
    if (
        count * block_size != length
        or offset + length > unit.size
        or 0 < unit.limits.max_transfer < count
        or int.from_bytes(cdb) & others
        or not length
        or (row.writes and not _writes_freely(unit))
    ):
        return None
    return row, offset


def _writes_freely(unit: Unit) -> bool:
    """Whether a write may end before it is on stable storage, or the storage has no cache."""
    can, mode = unit.capabilities, unit.mode
    return can.write and not mode.software_write_protect and (mode.write_cache or not can.flush)
