"""What no logical unit of ours answers: commands to LUNs that do not exist, and which LUNs do (SAM-5 4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.iscsi.addressing import lun_list
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, LUN_NOT_SUPPORTED, Status

if TYPE_CHECKING:
    from tcmu_runner.embedded.task import Task
    from tcmu_runner.scsi.table import Row

INQUIRY, REQUEST_SENSE, REPORT_LUNS = map(DISK.row, ("INQUIRY", "REQUEST SENSE", "REPORT LUNS"))
ABSENT = 0x7F  # peripheral qualifier 011b, device type 1Fh: not capable of a unit here (SPC-5 6.6.2)
WELL_KNOWN_ONLY, ALL, ADMINISTRATIVE, TOP_LEVEL, ALL_OF_THIS = 0x01, 0x02, 0x10, 0x11, 0x12
EMPTY, OURS = (WELL_KNOWN_ONLY, ADMINISTRATIVE), (0x00, ALL, TOP_LEVEL, ALL_OF_THIS)

Routed = tuple[int, bytes, bytes]  # status, sense, Data-In


def answer(task: Task) -> Routed:
    """The answer to a task that reaches no unit."""
    row = DISK.look_up(task.cdb)
    if row is REPORT_LUNS:
        return _report_luns(task)
    if row is INQUIRY and not task.cdb[1] & 1:
        return _data(task, row, bytes((ABSENT, 0, 0x07, 0x02, 31)) + bytes(31))
    if row is REQUEST_SENSE:
        descriptor = bool(task.cdb[1] & 1)
        return _data(task, row, LUN_NOT_SUPPORTED.encode(descriptor=descriptor))
    return Status.CHECK_CONDITION, LUN_NOT_SUPPORTED.encode(), b""


def _report_luns(task: Task) -> Routed:
    """SPC-5 6.33."""
    report, target = task.cdb[2], task.connection.session.target
    if report not in EMPTY + OURS:
        return Status.CHECK_CONDITION, INVALID_FIELD_IN_CDB.at(2).encode(), b""
    numbers = target.luns if target is not None and report in OURS else ()
    return _data(task, REPORT_LUNS, lun_list(numbers))


def _data(task: Task, row: Row, data: bytes) -> Routed:
    return Status.GOOD, b"", data[: row.layout.data_length(task.cdb)][: task.data_in_expected]
