"""TEST UNIT READY, REQUEST SENSE, START STOP UNIT (SPC-5 6.47, 6.39; SBC-4 5.36)."""

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Flush, Plan
from tcmu_runner.scsi.sense import INITIALIZING_COMMAND_REQUIRED, INVALID_FIELD_IN_CDB, NO_SENSE, ScsiError
from tcmu_runner.scsi.unit import Unit


def test_unit_ready(_unit: Unit, _command: Command) -> None:
    """Whether the unit is ready was checked before any command ran."""


def request_sense(unit: Unit, command: Command) -> None:
    """Reports a pending unit attention or the state, as parameter data with GOOD status (SPC-5 6.39)."""
    if command.nexus.attentions:
        sense = command.nexus.attentions.popleft()
    else:
        sense = INITIALIZING_COMMAND_REQUIRED if unit.stopped else NO_SENSE
    command.reply(sense.encode(descriptor=bool(command.cdb[1] & 0x01)), command.cdb[4])


def start_stop_unit(unit: Unit, command: Command) -> Plan:
    """Starts and stops; stopping empties the cache first unless NO_FLUSH says otherwise."""
    if command.cdb[4] >> 4:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(4, 7))  # POWER CONDITION: a disk without power states
    if command.cdb[4] & 0x02:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(4, 1))  # LOEJ: the medium is not removable
    unit.stopped = not command.cdb[4] & 0x01
    empties_cache = unit.stopped and unit.capabilities.flush and not command.cdb[4] & 0x04
    return Flush() if empties_cache else None
