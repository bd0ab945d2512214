"""LOG SENSE and LOG SELECT (SPC-5 6.8, 6.9), and the log pages of a disk (SPC-5 7.3, SBC-4 6.4)."""

from collections.abc import Callable, Mapping

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import MeasureSpace, Plan, Space, Steps
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, SAVING_NOT_SUPPORTED, ScsiError
from tcmu_runner.scsi.unit import Unit

PageCode = tuple[int, int]

SUPPORTED, SUPPORTED_WITH_SUBPAGES = (0, 0), (0, 0xFF)
PROVISIONING, TEMPERATURE, SELF_TEST, EXCEPTIONS = (0x0C, 0), (0x0D, 0), (0x10, 0), (0x2F, 0)
CUMULATIVE = 0b01  # PC, the page control field
BINARY_LIST = 0x03  # FORMAT AND LINKING of a parameter (SPC-5 table 353)
UNKNOWN_TEMPERATURE = 0xFF


def log_sense(unit: Unit, command: Command) -> Plan:
    """The parameters of a page, from PARAMETER POINTER on."""
    control, code = command.cdb[2] >> 6, (command.cdb[2] & 0x3F, command.cdb[3])
    if command.cdb[1] & 0x01:
        raise ScsiError(SAVING_NOT_SUPPORTED)
    if code not in supported(unit):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(3 if code[1] else 2))
    if control not in (CUMULATIVE, 0b00):  # no thresholds are kept
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2, 7))
    if code == PROVISIONING:
        return _tell_space(unit, command)
    _reply(command, code, _pages(unit, code) if code[0] == 0 else _list(command, _PARAMETERS[code](unit)))
    return None


def log_select(unit: Unit, command: Command) -> Plan:
    """No parameter can be set; resetting all (PCR) is accepted."""
    if command.cdb[1] & 0x01:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 0))  # SP
    if command.data_length:
        raise command.wrong_data_length()
    code = command.cdb[2] & 0x3F, command.cdb[3]
    if code != SUPPORTED and code not in supported(unit):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    return None


def supported(unit: Unit) -> list[PageCode]:
    """In ascending order; with Logical Block Provisioning if the storage knows its space."""
    codes = [SUPPORTED, SUPPORTED_WITH_SUBPAGES, PROVISIONING, *_PARAMETERS]
    return [code for code in codes if code != PROVISIONING or unit.capabilities.space]


def _reply(command: Command, code: PageCode, body: bytes) -> None:
    """SPC-5 table 350: SPF where there is a subpage."""
    number, subpage = code
    head = bytes((number | (0x40 if subpage else 0), subpage)) + len(body).to_bytes(2, "big")
    command.reply(head + body)


def _pages(unit: Unit, code: PageCode) -> bytes:
    """Supported Log Pages, Supported Log Pages and Subpages (SPC-5 7.3.2, 7.3.3)."""
    if code == SUPPORTED:
        return bytes(number for number, subpage in supported(unit) if not subpage)
    return b"".join(bytes(each) for each in supported(unit))


def _list(command: Command, parameters: Mapping[int, bytes]) -> bytes:
    pointer = command.field(5, 2)
    if pointer > max(parameters):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(5))
    return b"".join(
        number.to_bytes(2, "big") + bytes((BINARY_LIST, len(value))) + value
        for number, value in sorted(parameters.items())
        if number >= pointer
    )


def _tell_space(unit: Unit, command: Command) -> Steps:
    yield (measured := MeasureSpace())
    _reply(command, PROVISIONING, _list(command, _provisioning(unit, measured.found)))


def _provisioning(unit: Unit, space: Space) -> dict[int, bytes]:
    """Logical Block Provisioning (SBC-4 6.4.5), in blocks: AVAILABLE LBA MAPPING RESOURCE COUNT, not for
    this unit alone (SCOPE 10b); USED, of this unit (01b)."""
    return {
        0x0001: _resource_count(unit, space.available, scope=0b10),
        0x0002: _resource_count(unit, space.used, scope=0b01),
    }


def _resource_count(unit: Unit, size: int, scope: int) -> bytes:
    return min(size // unit.block_size, 0xFFFFFFFF).to_bytes(4, "big") + bytes((scope, 0, 0, 0))


def _temperature(_unit: Unit) -> dict[int, bytes]:
    """Temperature (SPC-5 7.3.21): a virtual disk has none."""
    return {0x0000: bytes((0, UNKNOWN_TEMPERATURE)), 0x0001: bytes((0, UNKNOWN_TEMPERATURE))}


def _self_tests(unit: Unit) -> dict[int, bytes]:
    """Self-Test Results (SPC-5 7.3.19): twenty parameters, the newest first."""
    results = list(unit.self_tests)[:20]
    return {number + 1: result for number, result in enumerate(results + [bytes(16)] * (20 - len(results)))}


def _exceptions(_unit: Unit) -> dict[int, bytes]:
    """Informational Exceptions (SBC-4 6.4.4): none."""
    return {0x0000: bytes((0, 0, UNKNOWN_TEMPERATURE, 0))}


_PARAMETERS: dict[PageCode, Callable[[Unit], dict[int, bytes]]] = {
    TEMPERATURE: _temperature,
    SELF_TEST: _self_tests,
    EXCEPTIONS: _exceptions,
}
