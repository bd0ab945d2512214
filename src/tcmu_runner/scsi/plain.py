"""Plain READ and WRITE: nearly all commands of a disk, and told from all others in a moment.

What `plain` accepts would end well in Unit.begin, with nothing about it but one Read or Write of all the
buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.scsi.commands import read_write
from tcmu_runner.scsi.opcodes import DISK

if TYPE_CHECKING:
    from tcmu_runner.scsi.table import Row
    from tcmu_runner.scsi.unit import Unit

# By opcode: the row, what reads its blocks, and the bits that say anything beside opcode and blocks.
_PLAIN = {
    row.opcode: (row, row.blocks, (1 << 8 * (row.layout.size - 1)) - 1 & ~row.layout.mask)
    for row in DISK
    if row.run in (read_write.read, read_write.write) and row.blocks is not None
}


def undisturbed(unit: Unit) -> bool:
    """Whether there is nothing about the unit that READ and WRITE have to heed, as there rarely is.

    What an earlier command of a batch does may change the answer; plain ones do not.
    """
    held = unit.reservations
    if held is not None and (held.type is not None or held.reserved_by is not None):
        return False
    for nexus in unit.nexuses:  # any() costs twice as much
        if nexus.attentions:
            return False
    return unit.medium.ready


def plain(unit: Unit, cdb: bytes, length: int) -> tuple[Row, int] | None:
    """The row of a READ or WRITE of an undisturbed unit, and the offset in bytes. `length`: of its buffers.

    None: it is anything else, has a flag set, its buffers have not the length in the CDB, or it fails.
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
    """Whether a write may end before it is on stable storage, or the storage knows no difference."""
    can, mode = unit.capabilities, unit.mode
    return can.write and not mode.software_write_protect and (mode.write_cache or not can.flush)
