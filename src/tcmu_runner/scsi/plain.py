"""Plain READ and WRITE, the bulk of all commands: decided in one go, not step by step as `Unit.begin` does.

Whatever this module lets pass, `Unit.begin` would turn into one Read or Write of all the buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.scsi.opcodes import DISK

if TYPE_CHECKING:
    from tcmu_runner.scsi.table import Row
    from tcmu_runner.scsi.unit import Unit

# Bytes that say anything beside LBA and length: flags, group number, control (SBC-4 5.17, 5.19, 5.41, 5.43).
_OTHERS = {10: (1, 6, 9), 16: (1, 14, 15)}
_ROWS = {row.opcode: row for row in DISK if row.opcode in (0x28, 0x2A, 0x88, 0x8A)}
_PLAIN = {opcode: (row, row.blocks, *_OTHERS[len(row.mask)]) for opcode, row in _ROWS.items() if row.blocks}


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
    row, blocks, flags, group, control = found
    lba, count = blocks(cdb)
    offset = lba * unit.block_size
    if (
        cdb[flags]
        or cdb[group]
        or cdb[control]
        or not length
        or count * unit.block_size != length
        or offset + length > unit.size
        or (row.writes and not _writes_freely(unit))
    ):
        return None
    return row, offset


def _writes_freely(unit: Unit) -> bool:
    """Whether a write may end before it is on stable storage, or the storage knows no difference."""
    return not unit.read_only and (unit.mode.write_cache or not unit.capabilities.flush)
