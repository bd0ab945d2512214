"""What no logical unit of ours answers: commands to LUNs that do not exist, and which LUNs do (SAM-5 4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.embedded.addressing import lun_list
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, LUN_NOT_SUPPORTED, Status

if TYPE_CHECKING:
    from tcmu_runner.embedded.task import Task

INQUIRY, REQUEST_SENSE, REPORT_LUNS = 0x12, 0x03, 0xA0
ABSENT = 0x7F  # peripheral qualifier 011b, device type 1Fh: not capable of a unit here (SPC-5 6.6.2)
WELL_KNOWN_ONLY, ALL, ADMINISTRATIVE, TOP_LEVEL, ALL_OF_THIS = 0x01, 0x02, 0x10, 0x11, 0x12
EMPTY, OURS = (WELL_KNOWN_ONLY, ADMINISTRATIVE), (0x00, ALL, TOP_LEVEL, ALL_OF_THIS)

Routed = tuple[int, bytes, bytes]  # status, sense, Data-In


def answer(task: Task) -> Routed:
    """The answer to a task that reaches no unit."""
    opcode = task.cdb[0]
    if opcode == REPORT_LUNS:
        return _report_luns(task)
    if opcode == INQUIRY and not task.cdb[1] & 1:
        return _data(
            task, bytes((ABSENT, 0, 0x07, 0x02, 31)) + bytes(31), int.from_bytes(task.cdb[3:5], "big")
        )
    if opcode == REQUEST_SENSE:
        descriptor = bool(task.cdb[1] & 1)
        return _data(task, LUN_NOT_SUPPORTED.encode(descriptor=descriptor), task.cdb[4])
    return Status.CHECK_CONDITION, LUN_NOT_SUPPORTED.encode(), b""


def _report_luns(task: Task) -> Routed:
    """SPC-5 6.33."""
    report, target = task.cdb[2], task.connection.session.target
    if report not in EMPTY + OURS:
        return Status.CHECK_CONDITION, INVALID_FIELD_IN_CDB.at(2).encode(), b""
    numbers = target.luns if target is not None and report in OURS else ()
    return _data(task, lun_list(numbers), int.from_bytes(task.cdb[6:10], "big"))


def _data(task: Task, data: bytes, allocation_length: int) -> Routed:
    return Status.GOOD, b"", data[: min(allocation_length, task.data_in_expected)]
