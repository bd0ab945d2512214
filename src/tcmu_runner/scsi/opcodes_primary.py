"""The rows of the opcode table for the commands that every device has. Clauses: SPC-5."""

from __future__ import annotations

from tcmu_runner.scsi import cdb as bits
from tcmu_runner.scsi import table
from tcmu_runner.scsi.cdb import (
    DATA_6,
    DATA_10,
    DATA_12,
    DATA_16,
    LONG_DATA_6,
    NO_DATA_6,
    NO_DATA_10,
    CdbLayout,
)
from tcmu_runner.scsi.commands import (
    alua,
    copy_results,
    diagnostic,
    extended_copy,
    inquiry,
    log,
    mode,
    persistent_reserve,
    start_stop,
)
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.table import Moves, Row

BUFFER = CdbLayout(10, length=(6, 3))  # READ BUFFER, WRITE BUFFER: SPC-4 6.18, 6.49

_EVERY_DEVICE = [
    Row(0x00, "TEST UNIT READY", NO_DATA_6, "", start_stop.test_unit_ready, medium=True),
    Row(
        0x03, "REQUEST SENSE", DATA_6, "01", start_stop.request_sense, moves=Moves.DATA_IN,
        attention=False, access=Access.ALWAYS,
    ),
    Row(
        0x12, "INQUIRY", LONG_DATA_6, "01 ff", inquiry.inquiry, moves=Moves.DATA_IN,
        attention=False, access=Access.ALWAYS, refuses=(bits.CMDDT,),
    ),
    Row(
        0x15, "MODE SELECT(6)", DATA_6, "10", mode.mode_select_6, moves=Moves.DATA_OUT,
        access=Access.WRITES, refuses=(bits.SAVE_PAGES, bits.REVERT),
    ),
    Row(
        0x16, "RESERVE(6)", NO_DATA_6, "", persistent_reserve.reserve_unit,
        needs=table.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.PARTY_ID_6, bits.EXTENT_ID, bits.EXTENT_LIST_6),
    ),
    Row(
        0x17, "RELEASE(6)", NO_DATA_6, "", persistent_reserve.release_unit,
        needs=table.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT), ignores=(bits.PARTY_ID_6, bits.EXTENT_ID),
    ),
    Row(
        0x1A, "MODE SENSE(6)", DATA_6, "08 ff ff", mode.mode_sense_6, moves=Moves.DATA_IN,
        access=Access.READS,
    ),
    Row(
        0x1C, "RECEIVE DIAGNOSTIC RESULTS", LONG_DATA_6, "01 ff", diagnostic.receive_diagnostic_results,
        moves=Moves.DATA_IN, access=Access.READS,
    ),
    Row(
        0x1D, "SEND DIAGNOSTIC", LONG_DATA_6, "f7", diagnostic.send_diagnostic, moves=Moves.DATA_OUT,
        medium=True, access=Access.WRITES,
    ),
    Row(
        0x3B, "WRITE BUFFER", BUFFER, "1f ff ffffff", diagnostic.write_buffer, moves=Moves.DATA_OUT,
        access=Access.WRITES, ignores=(bits.MODE_SPECIFIC,),
    ),
    Row(
        0x3C, "READ BUFFER(10)", BUFFER, "1f ff ffffff", diagnostic.read_buffer, moves=Moves.DATA_IN,
        access=Access.READS, ignores=(bits.MODE_SPECIFIC,),
    ),
    Row(
        0x4C, "LOG SELECT", DATA_10, "03 ff ff", log.log_select, moves=Moves.DATA_OUT, access=Access.WRITES,
    ),
    Row(
        0x4D, "LOG SENSE", DATA_10, "01 ff ff 00 ffff", log.log_sense, moves=Moves.DATA_IN,
        access=Access.ALWAYS, refuses=(bits.PPC,),
    ),
    Row(
        0x55, "MODE SELECT(10)", DATA_10, "10", mode.mode_select_10, moves=Moves.DATA_OUT,
        access=Access.WRITES, refuses=(bits.SAVE_PAGES, bits.REVERT),
    ),
    Row(
        0x56, "RESERVE(10)", NO_DATA_10, "", persistent_reserve.reserve_unit,
        needs=table.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.LONGID, bits.EXTENT_ID, bits.PARTY_ID_10, bits.LIST_10),
    ),
    Row(
        0x57, "RELEASE(10)", NO_DATA_10, "", persistent_reserve.release_unit,
        needs=table.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.LONGID, bits.EXTENT_ID, bits.PARTY_ID_10, bits.LIST_10),
    ),
    Row(
        0x5A, "MODE SENSE(10)", DATA_10, "18 ff ff", mode.mode_sense_10, moves=Moves.DATA_IN,
        access=Access.READS,
    ),
    Row(
        0xA0, "REPORT LUNS", DATA_12, "00 ff", inquiry.report_luns, moves=Moves.DATA_IN,
        needs=table.knows_luns, attention=False, access=Access.ALWAYS,
    ),
    Row(
        0xA3, "REPORT TARGET PORT GROUPS", DATA_12, "e0", alua.report_target_port_groups,
        action=0x0A, moves=Moves.DATA_IN, needs=table.knows_ports,
    ),
    Row(
        0xA3, "REPORT SUPPORTED OPERATION CODES", DATA_12, "00 87 ff ffff",
        inquiry.report_supported_operation_codes, action=0x0C, moves=Moves.DATA_IN, access=Access.READS,
    ),
    Row(
        0xA3, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", DATA_12, "00 80",
        inquiry.report_supported_task_management_functions,
        action=0x0D, moves=Moves.DATA_IN, access=Access.READS,
    ),
    Row(
        0xA4, "SET TARGET PORT GROUPS", DATA_12, "", alua.set_target_port_groups,
        action=0x0A, moves=Moves.DATA_OUT, needs=table.sets_states, access=Access.WRITES,
    ),
]  # fmt: skip

_RESERVE_IN = [
    Row(
        0x5E, f"PERSISTENT RESERVE IN: {name}", DATA_10, "", run, action=action, moves=Moves.DATA_IN,
        needs=table.keeps_reservations,
    )
    for action, name, run in (
        (0x00, "READ KEYS", persistent_reserve.read_keys),
        (0x01, "READ RESERVATION", persistent_reserve.read_reservation),
        (0x02, "REPORT CAPABILITIES", persistent_reserve.report_capabilities),
        (0x03, "READ FULL STATUS", persistent_reserve.read_full_status),
    )
]  # fmt: skip

_RESERVE_OUT = [
    Row(
        0x5F, f"PERSISTENT RESERVE OUT: {name}", CdbLayout(10, length=(5, 4)), "00 ff", run, action=action,
        moves=Moves.DATA_OUT, needs=table.keeps_reservations,
    )
    for action, name, run in (
        (0x00, "REGISTER", persistent_reserve.register),
        (0x01, "RESERVE", persistent_reserve.reserve),
        (0x02, "RELEASE", persistent_reserve.release),
        (0x03, "CLEAR", persistent_reserve.clear),
        (0x04, "PREEMPT", persistent_reserve.preempt),
        (0x05, "PREEMPT AND ABORT", persistent_reserve.preempt_and_abort),
        (0x06, "REGISTER AND IGNORE EXISTING KEY", persistent_reserve.register_and_ignore),
        (0x07, "REGISTER AND MOVE", persistent_reserve.register_and_move),
    )
]  # fmt: skip

_COPY = [
    Row(
        0x83, "EXTENDED COPY(LID1)", DATA_16, "", extended_copy.extended_copy,
        action=0x00, moves=Moves.DATA_OUT, medium=True, writes=True,
    ),
    *(
        Row(
            0x84, f"RECEIVE COPY RESULTS: {name}", DATA_16, "00 ff", run, action=action,
            moves=Moves.DATA_IN, access=Access.READS,
        )
        for action, name, run in (
            (0x00, "COPY STATUS(LID1)", copy_results.copy_status),
            (0x03, "OPERATING PARAMETERS", copy_results.operating_parameters),
            (0x04, "FAILED SEGMENT DETAILS(LID1)", copy_results.failed_segment_details),
        )
    ),
]  # fmt: skip

PRIMARY = [*_EVERY_DEVICE, *_RESERVE_IN, *_RESERVE_OUT, *_COPY]
