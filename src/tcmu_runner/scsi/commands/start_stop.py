"""TEST UNIT READY, REQUEST SENSE (SPC-4 6.47, 6.39), START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL (SBC-4
5.31, 5.15)."""

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Flush, Plan
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    MEDIUM_MAY_HAVE_CHANGED,
    MEDIUM_NOT_PRESENT,
    MEDIUM_REMOVAL_PREVENTED,
    NO_SENSE,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

START, LOEJ, NO_FLUSH = 0x01, 0x02, 0x04


def test_unit_ready(_unit: Unit, _command: Command) -> None:
    """Nothing to do: Unit.begin has checked that the unit is ready."""


def request_sense(unit: Unit, command: Command) -> None:
    """Returns a pending unit attention or the state as parameter data, with GOOD status (SPC-4 6.39)."""
    if command.nexus.attentions:
        sense = unit.next_attention(command.nexus)
    else:
        sense = unit.medium.obstacle() or NO_SENSE
    command.reply(sense.encode(descriptor=bool(command.cdb[1] & 0x01)))


def start_stop_unit(unit: Unit, command: Command) -> Plan:
    """Starts and stops, loads and ejects. A stop flushes the cache first unless NO_FLUSH is set. POWER
    CONDITION has no effect: this disk has a single one. A medium that can be ejected has no motor."""
    flags = command.cdb[4]
    if unit.medium.job is not None:
        raise ScsiError(unit.medium.obstacle() or NO_SENSE)
    if flags >> 4:
        return None
    if not flags & START:
        unit.check_access(command.nexus, Access.WRITES)  # SBC-4 table 13: a start is always allowed
    if flags & LOEJ:
        _load_or_eject(unit, command, inserted=bool(flags & START))
    elif unit.medium.ejected:
        raise ScsiError(MEDIUM_NOT_PRESENT)
    elif not unit.removable:
        unit.medium.power(on=bool(flags & START))
    empties_cache = not flags & (START | NO_FLUSH) and unit.capabilities.flush
    return Flush() if empties_cache else None


def _load_or_eject(unit: Unit, command: Command, *, inserted: bool) -> None:
    if not unit.removable:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(4, 1))
    if unit.medium.prevented_by:
        raise ScsiError(MEDIUM_REMOVAL_PREVENTED)
    if inserted and unit.medium.ejected:
        unit.queue_unit_attention(MEDIUM_MAY_HAVE_CHANGED, except_for=command.nexus)
    unit.medium.load(inserted=inserted)


def prevent_allow_medium_removal(unit: Unit, command: Command) -> None:
    """Removal is prevented while any nexus prevents it."""
    if command.cdb[4] & 0x01:
        unit.check_access(command.nexus, Access.WRITES)
        unit.medium.prevent(command.nexus)
    else:
        unit.medium.allow(command.nexus)
