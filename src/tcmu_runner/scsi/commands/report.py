"""REPORT SUPPORTED OPERATION CODES, answered from the opcode table (SPC-5 6.35)."""

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.table import Row, action_of
from tcmu_runner.scsi.unit import Unit

NOT_SUPPORTED, SUPPORTED = 0x01, 0x03
NO_TIMEOUTS = b"\x00\x0a" + bytes(10)  # timeouts descriptor (SPC-5 6.35.4): nothing is indicated


def report_supported_operation_codes(unit: Unit, command: Command) -> None:
    option, timeouts = command.cdb[2] & 0x07, bool(command.cdb[2] & 0x80)
    rows = [row for row in unit.table if row.needs(unit)]
    if option == 0:
        command.reply(_all(rows, timeouts=timeouts), command.field(6, 4))
    elif option <= 3:
        row = _requested(rows, option, command.cdb[3], command.field(4, 2))
        command.reply(_one(row, timeouts=timeouts), command.field(6, 4))
    else:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2, 2))


def _all(rows: list[Row], *, timeouts: bool) -> bytes:
    body = b"".join(_descriptor(row, timeouts=timeouts) for row in rows)
    return len(body).to_bytes(4, "big") + body


def _descriptor(row: Row, *, timeouts: bool) -> bytes:
    """Command descriptor (SPC-5 table 301)."""
    action = (row.action or 0).to_bytes(2, "big")
    flags = (0x02 if timeouts else 0) | (0x01 if row.action is not None else 0)
    head = bytes((row.opcode, 0)) + action + bytes((0, flags)) + len(row.mask).to_bytes(2, "big")
    return head + NO_TIMEOUTS if timeouts else head


def _requested(rows: list[Row], option: int, opcode: int, action: int) -> Row | None:
    """REPORTING OPTIONS 1 wants an opcode without, 2 one with service actions, 3 takes either (table 299)."""
    found = [row for row in rows if row.opcode == opcode]
    has_actions = any(row.action is not None for row in found)
    if (option == 1 and has_actions) or (option == 2 and found and not has_actions):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(4 if option == 1 else 2, None if option == 1 else 2))
    wanted = action if has_actions else None
    if option == 3 and not has_actions and action:
        return None
    return next((row for row in found if row.action == wanted), None)


def _one(row: Row | None, *, timeouts: bool) -> bytes:
    """One_command parameter data (SPC-5 table 303)."""
    if row is None:
        return bytes((0, NOT_SUPPORTED, 0, 0))
    flags = SUPPORTED | (0x80 if timeouts else 0)
    data = bytes((0, flags)) + len(row.mask).to_bytes(2, "big") + usage(row)
    return data + NO_TIMEOUTS if timeouts else data


def usage(row: Row) -> bytes:
    """CDB usage data: the mask with the opcode, and the service action where there is one, in place."""
    data = bytearray(row.mask)
    assert data[0] == row.opcode
    assert row.action is None or action_of(data) == row.action
    return bytes(data)
