"""What no logical unit of ours answers: commands to LUNs that do not exist, and which LUNs do (SAM-5 4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.embedded.session import Session
from tcmu_runner.iscsi.addressing import lun_list, lun_number
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, LUN_NOT_SUPPORTED, Status

if TYPE_CHECKING:
    from tcmu_runner.iscsi.pending import PendingCommand
    from tcmu_runner.scsi.table import Row

INQUIRY, REQUEST_SENSE, REPORT_LUNS = map(DISK.row, ("INQUIRY", "REQUEST SENSE", "REPORT LUNS"))
ABSENT = 0x7F  # peripheral qualifier 011b, device type 1Fh: not capable of a unit here (SPC-5 6.6.2)
WELL_KNOWN_ONLY, ALL, ADMINISTRATIVE, TOP_LEVEL, ALL_OF_THIS = 0x01, 0x02, 0x10, 0x11, 0x12
EMPTY, OURS = (WELL_KNOWN_ONLY, ADMINISTRATIVE), (0x00, ALL, TOP_LEVEL, ALL_OF_THIS)

Routed = tuple[int, bytes, bytes]  # status, sense, Data-In


def answer(command: PendingCommand) -> Routed:
    """The answer to a command that reaches no unit."""
    row = DISK.look_up(command.cdb)
    if row is REPORT_LUNS:
        return _report_luns(command)
    if row is INQUIRY and not command.cdb[1] & 1:
        return _data(command, row, bytes((ABSENT, 0, 0x07, 0x02, 31)) + bytes(31))
    if row is REQUEST_SENSE:
        descriptor = bool(command.cdb[1] & 1)
        return _data(command, row, LUN_NOT_SUPPORTED.encode(descriptor=descriptor))
    return Status.CHECK_CONDITION, LUN_NOT_SUPPORTED.encode(), b""


def _report_luns(command: PendingCommand) -> Routed:
    """SPC-5 6.33."""
    report, session = command.cdb[2], command.connection.session
    assert isinstance(session, Session)
    if report not in EMPTY + OURS:
        return Status.CHECK_CONDITION, INVALID_FIELD_IN_CDB.at(2).encode(), b""
    numbers = map(lun_number, session.units) if report in OURS else ()
    return _data(command, REPORT_LUNS, lun_list(numbers))


def _data(command: PendingCommand, row: Row, data: bytes) -> Routed:
    return Status.GOOD, b"", data[: row.layout.data_length(command.cdb)][: command.data_in_expected]
