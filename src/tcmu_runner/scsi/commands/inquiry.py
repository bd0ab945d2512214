"""What a unit says of itself: INQUIRY (SPC-5 6.7), READ CAPACITY(10) and (16) (SBC-4 5.20, 5.21), REPORT
SUPPORTED OPERATION CODES, answered from the opcode table, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, and
REPORT LUNS (SPC-4 6.35, 6.36, 6.33)."""

from tcmu_runner.scsi import vpd
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.table import Row, action_of
from tcmu_runner.scsi.unit import Unit

DISK = 0x00
SPC_4 = 0x06  # the newest version that initiators know; the version descriptors say more
# SPC-5 annex D, none with a version claimed: SAM-5, SPC-4, SPC-5, SBC-3, SBC-4
STANDARDS = (0x00A0, 0x0460, 0x05C0, 0x04C0, 0x0600)


def inquiry(unit: Unit, command: Command) -> None:
    page = command.cdb[2]
    if command.cdb[1] & 0x01:
        if page not in vpd.supported(unit):
            raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
        command.reply(vpd.page(unit, command.nexus, page))
    elif page:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    else:
        command.reply(_standard(unit))


def _standard(unit: Unit) -> bytes:
    """SPC-5 table 146."""
    identity = unit.identify()
    data = bytearray(74)
    data[0] = DISK
    data[1] = 0x80 if unit.removable else 0  # RMB
    data[2] = SPC_4
    data[3] = 0x12  # HISUP, RESPONSE DATA FORMAT 2
    data[4] = len(data) - 5
    data[5] = _access_control(unit)
    data[6] = 0x10 if unit.ports is not None and _is_multi_port(unit) else 0  # MULTIP
    data[7] = 0x02  # CMDQUE
    data[8:16] = vpd.text(identity.vendor, 8)
    data[16:32] = vpd.text(identity.product, 16)
    data[32:36] = vpd.text(identity.revision, 4)
    for at, standard in enumerate(STANDARDS):
        data[58 + 2 * at : 60 + 2 * at] = standard.to_bytes(2, "big")
    return bytes(data)


def _access_control(unit: Unit) -> int:
    """TPGS, bits 5 and 4: which ways of changing access states there are; 3PC, bit 3."""
    bits = 0x08 if unit.table.offers(unit, "EXTENDED COPY(LID1)") else 0
    if unit.ports is not None and unit.table.offers(unit, "REPORT TARGET PORT GROUPS"):
        bits |= (0x10 if unit.ports.implicit else 0) | (0x20 if unit.ports.explicit else 0)
    return bits


def _is_multi_port(unit: Unit) -> bool:
    assert unit.ports is not None
    return sum(len(group.ports) for group in unit.ports.groups()) > 1


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


NOT_SUPPORTED, SUPPORTED = 0x01, 0x03
NO_TIMEOUTS = b"\x00\x0a" + bytes(10)  # timeouts descriptor (SPC-4 6.35.4): no timeouts are reported


def report_supported_operation_codes(unit: Unit, command: Command) -> None:
    option, timeouts = command.cdb[2] & 0x07, bool(command.cdb[2] & 0x80)
    rows = [row for row in unit.table if row.needs(unit) or row.opcode in unit.answered_by_target]
    if option == 0:
        command.reply(_all(rows, timeouts=timeouts))
    elif option <= 3:
        row = _requested(rows, option, command.cdb[3], command.field(4, 2))
        command.reply(_one(row, timeouts=timeouts))
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
    """REPORTING OPTIONS 1: an opcode without service actions; 2: with; 3: either (table 299)."""
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
    """CDB usage data: the row's mask, which contains opcode and service action."""
    data = bytearray(row.mask)
    assert data[0] == row.opcode
    assert row.action is None or action_of(data) == row.action
    return bytes(data)


def report_supported_task_management_functions(unit: Unit, command: Command) -> None:
    """The short form, or with REPD the long one, without timeouts (SPC-5 tables 309 and 310)."""
    long = bool(command.cdb[2] & 0x80)
    data = unit.task_management + (bytes((0, 12)) + bytes(12) if long else bytes(2))
    command.reply(data)


def report_luns(unit: Unit, command: Command) -> None:
    """SELECT REPORT 00h and 02h: all LUNs, since none is well known; the others: none (SPC-5 table 297)."""
    assert unit.luns is not None, "the row of this command needs them"
    select = command.cdb[2]
    if select not in (0x00, 0x01, 0x02, 0x10, 0x11, 0x12):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    numbers = unit.luns() if select in (0x00, 0x02) else ()
    body = b"".join(_lun(number) for number in numbers)
    command.reply(len(body).to_bytes(4, "big") + bytes(4) + body)


def _lun(number: int) -> bytes:
    """Peripheral addressing up to 255, flat space addressing above (SAM-5 4.7.7)."""
    word = number if number < 0x100 else 0x4000 | number
    return word.to_bytes(2, "big") + bytes(6)
