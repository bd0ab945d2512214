"""When a unit offers a command, for the rows of the opcode table. The docstrings go into the manual."""

from tcmu_runner.scsi.unit import Unit


def can_unmap(unit: Unit) -> bool:
    """where the storage can unmap"""
    return unit.capabilities.unmap


def knows_extents(unit: Unit) -> bool:
    """where the storage can tell its extents"""
    return unit.capabilities.extents


def can_erase_key(unit: Unit) -> bool:
    """where the storage can throw its key away"""
    return unit.capabilities.crypto_erase


def writes_whole(unit: Unit) -> bool:
    """where the storage stores a write whole or not at all"""
    return unit.capabilities.atomic


def is_removable(unit: Unit) -> bool:
    """on a unit with removable medium"""
    return unit.removable


def keeps_reservations(unit: Unit) -> bool:
    """embedded mode only (behind LIO the kernel answers)"""
    return unit.reservations is not None


def knows_luns(unit: Unit) -> bool:
    """embedded mode only (behind LIO the kernel answers)"""
    return unit.luns is not None


def knows_ports(unit: Unit) -> bool:
    """where target port groups are known"""
    return unit.ports is not None


def sets_states(unit: Unit) -> bool:
    """where target port groups can be changed explicitly"""
    return unit.ports is not None and unit.ports.explicit
