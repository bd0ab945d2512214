"""SEND DIAGNOSTIC, RECEIVE DIAGNOSTIC RESULTS, READ BUFFER, WRITE BUFFER (SPC-5 6.42, 6.29, 6.18, 6.49)."""

from tcmu_runner import iov
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Plan, Read, Steps
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    SELF_TEST_FAILED,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

BUFFER_SIZE, ECHO_SIZE = 1 << 16, 4096
DATA, DESCRIPTOR, ECHO, ECHO_DESCRIPTOR = 0x02, 0x03, 0x0A, 0x0B  # modes (SPC-5 tables 252 and 377)
SELF_TESTS = (0b001, 0b010, 0b101, 0b110)  # SELF-TEST CODE (SPC-5 table 343)
PASSED, FAILED = 0x0, 0x7


def send_diagnostic(unit: Unit, command: Command) -> Plan:
    """A self-test reads the first block. It ends with the command, so there is none to abort."""
    code, size = command.cdb[1] >> 5, command.data_length
    default_test = bool(command.cdb[1] & 0x04)
    if code and (default_test or size):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 7))
    if code in SELF_TESTS or default_test:
        return _self_test(unit, code)
    if code:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 7))
    if size:
        _check_page(command, size)
    return None


def _check_page(command: Command, size: int) -> None:
    """Only the page with the list of pages is supported (SPC-5 7.2.4)."""
    parameters = command.parameter_list(size)
    if len(parameters) < size or size < 4:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    if parameters[0] or any(parameters[2:4]):
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(0, in_cdb=False))


def _self_test(unit: Unit, code: int) -> Steps:
    result = FAILED
    try:
        yield Read(0, iov.allocate(unit.block_size))
        result = PASSED
    except Exception as error:
        raise ScsiError(SELF_TEST_FAILED) from error
    finally:
        # SPC-5 table 417: code and result; the time and place of a failure, not known, are zeroes
        unit.self_tests.appendleft(bytes((code << 5 | result,)) + bytes(15))
        unit.remember()


def receive_diagnostic_results(unit: Unit, command: Command) -> None:
    """The list of pages, which contains only itself (SPC-5 table 344)."""
    if command.cdb[1] & 0x01 and command.cdb[2]:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    command.reply(bytes((0, 0, 0, 1, 0)))


def read_buffer(unit: Unit, command: Command) -> None:
    """One buffer, number 0, for all nexuses, and an echo buffer for each nexus."""
    mode, offset = command.cdb[1] & 0x1F, command.field(3, 3)
    if mode == DESCRIPTOR:
        size = BUFFER_SIZE if command.cdb[2] == 0 else 0
        command.reply(bytes((0,)) + size.to_bytes(3, "big"))
    elif mode == ECHO_DESCRIPTOR:
        command.reply(bytes((0, 0)) + ECHO_SIZE.to_bytes(2, "big"))
    elif mode == DATA:
        _check_range(command, offset, 0)
        held = bytes(unit.buffer).ljust(BUFFER_SIZE, b"\0")
        command.reply(held[offset:])
    elif mode == ECHO:
        command.reply(_echo(command))
    else:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 4))


def _echo(command: Command) -> bytes:
    """What the same nexus has written before (SPC-4 6.18.9)."""
    if command.nexus.echo is None:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 4))
    return command.nexus.echo


def write_buffer(unit: Unit, command: Command) -> None:
    """Writes data or echo; microcode modes are refused."""
    mode, offset, size = command.cdb[1] & 0x1F, command.field(3, 3), command.data_length
    if mode not in (DATA, ECHO):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 4))
    data = command.parameter_list(size)
    if len(data) < size:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(6))
    if mode == ECHO:
        if size > ECHO_SIZE:
            raise ScsiError(INVALID_FIELD_IN_CDB.at(6))
        command.nexus.echo = data
        unit.remember()
        return
    _check_range(command, offset, size)
    unit.buffer.extend(bytes(max(0, offset + size - len(unit.buffer))))
    unit.buffer[offset : offset + size] = data
    unit.remember()


def _check_range(command: Command, offset: int, size: int) -> None:
    if command.cdb[2]:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))  # BUFFER ID
    if offset > BUFFER_SIZE:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(3))
    if offset + size > BUFFER_SIZE:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(6))
