"""THE opcode table of a disk. Clauses: SPC-5 for what every device has, SBC-4 for block devices.

`usage` is written as the CDB lies: opcode, then a mask for each byte, in groups of fields. There is no
protection information, so RDPROTECT, WRPROTECT and their like are masked out, and the 32-byte forms of READ,
WRITE, VERIFY and WRITE SAME, which are for protection type 2 (SBC-4 4.21.2.4), are missing. GROUP NUMBER is
taken and means nothing (GROUP_SUP is clear).
"""

from __future__ import annotations

from tcmu_runner.scsi import offers
from tcmu_runner.scsi.commands import (
    alua,
    atomic,
    capacity,
    copy,
    copy_results,
    diagnostic,
    erasing,
    identity,
    log,
    mode,
    provisioning,
    readiness,
    report,
    reserve,
    transfer,
    verification,
)
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.table import (
    ATOMIC_BLOCKS,
    BLOCKS_6,
    BLOCKS_10,
    BLOCKS_12,
    BLOCKS_16,
    COMPARE_AND_WRITE_BLOCKS,
    Row,
    Table,
)

_EVERY_DEVICE = [
    Row(0x00, "TEST UNIT READY", "00 00 00 00 00 00", readiness.test_unit_ready, medium=True),
    Row(
        0x03, "REQUEST SENSE", "03 01 00 00 ff 00", readiness.request_sense,
        attention=False, access=Access.ALWAYS,
    ),
    Row(0x12, "INQUIRY", "12 01 ff ffff 00", identity.inquiry, attention=False, access=Access.ALWAYS),
    Row(0x15, "MODE SELECT(6)", "15 10 00 00 ff 00", mode.mode_select_6, access=Access.WRITES),
    Row(
        0x16, "RESERVE(6)", "16 00 00 0000 00", reserve.reserve_unit,
        needs=offers.keeps_reservations, access=Access.ALWAYS,
    ),
    Row(
        0x17, "RELEASE(6)", "17 00 00 0000 00", reserve.release_unit,
        needs=offers.keeps_reservations, access=Access.ALWAYS,
    ),
    Row(0x1A, "MODE SENSE(6)", "1a 08 ff ff ff 00", mode.mode_sense_6, access=Access.READS),
    Row(
        0x1C, "RECEIVE DIAGNOSTIC RESULTS", "1c 01 ff ffff 00", diagnostic.receive_diagnostic_results,
        access=Access.READS,
    ),
    Row(
        0x1D, "SEND DIAGNOSTIC", "1d f7 00 ffff 00", diagnostic.send_diagnostic,
        medium=True, access=Access.WRITES,
    ),
    Row(0x3B, "WRITE BUFFER", "3b 1f ff ffffff ffffff 00", diagnostic.write_buffer, access=Access.WRITES),
    Row(0x3C, "READ BUFFER(10)", "3c 1f ff ffffff ffffff 00", diagnostic.read_buffer, access=Access.READS),
    Row(0x4C, "LOG SELECT", "4c 03 ff ff 000000 ffff 00", log.log_select, access=Access.WRITES),
    Row(0x4D, "LOG SENSE", "4d 01 ff ff 00 ffff ffff 00", log.log_sense, access=Access.ALWAYS),
    Row(0x55, "MODE SELECT(10)", "55 10 00 00 000000 ffff 00", mode.mode_select_10, access=Access.WRITES),
    Row(
        0x56, "RESERVE(10)", "56 00 00 00 000000 0000 00", reserve.reserve_unit,
        needs=offers.keeps_reservations, access=Access.ALWAYS,
    ),
    Row(
        0x57, "RELEASE(10)", "57 00 00 00 000000 0000 00", reserve.release_unit,
        needs=offers.keeps_reservations, access=Access.ALWAYS,
    ),
    Row(0x5A, "MODE SENSE(10)", "5a 18 ff ff 000000 ffff 00", mode.mode_sense_10, access=Access.READS),
    Row(
        0xA0, "REPORT LUNS", "a0 00 ff 000000 ffffffff 00 00", report.report_luns,
        needs=offers.knows_luns, attention=False, access=Access.ALWAYS,
    ),
    Row(
        0xA3, "REPORT TARGET PORT GROUPS", "a3 ea 00000000 ffffffff 00 00", alua.report_target_port_groups,
        action=0x0A, needs=offers.knows_ports,
    ),
    Row(
        0xA3, "REPORT SUPPORTED OPERATION CODES", "a3 0c 87 ff ffff ffffffff 00 00",
        report.report_supported_operation_codes, action=0x0C, access=Access.READS,
    ),
    Row(
        0xA3, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", "a3 0d 80 000000 ffffffff 00 00",
        report.report_supported_task_management_functions, action=0x0D, access=Access.READS,
    ),
    Row(
        0xA4, "SET TARGET PORT GROUPS", "a4 0a 00000000 ffffffff 00 00", alua.set_target_port_groups,
        action=0x0A, needs=offers.sets_states, access=Access.WRITES,
    ),
]  # fmt: skip

_RESERVE_IN = [
    Row(0x5E, f"PERSISTENT RESERVE IN: {name}", usage, run, action=action, needs=offers.keeps_reservations)
    for action, name, usage, run in (
        (0x00, "READ KEYS", "5e 00 0000000000 ffff 00", reserve.read_keys),
        (0x01, "READ RESERVATION", "5e 01 0000000000 ffff 00", reserve.read_reservation),
        (0x02, "REPORT CAPABILITIES", "5e 02 0000000000 ffff 00", reserve.report_capabilities),
        (0x03, "READ FULL STATUS", "5e 03 0000000000 ffff 00", reserve.read_full_status),
    )
]

_RESERVE_OUT = [
    Row(0x5F, f"PERSISTENT RESERVE OUT: {name}", usage, run, action=action, needs=offers.keeps_reservations)
    for action, name, usage, run in (
        (0x00, "REGISTER", "5f 00 ff 0000 ffffffff 00", reserve.register),
        (0x01, "RESERVE", "5f 01 ff 0000 ffffffff 00", reserve.reserve),
        (0x02, "RELEASE", "5f 02 ff 0000 ffffffff 00", reserve.release),
        (0x03, "CLEAR", "5f 03 ff 0000 ffffffff 00", reserve.clear),
        (0x04, "PREEMPT", "5f 04 ff 0000 ffffffff 00", reserve.preempt),
        (0x05, "PREEMPT AND ABORT", "5f 05 ff 0000 ffffffff 00", reserve.preempt_and_abort),
        (0x06, "REGISTER AND IGNORE EXISTING KEY", "5f 06 ff 0000 ffffffff 00", reserve.register_and_ignore),
        (0x07, "REGISTER AND MOVE", "5f 07 ff 0000 ffffffff 00", reserve.register_and_move),
    )
]

_COPY = [
    Row(
        0x83, "EXTENDED COPY(LID1)", "83 00 0000000000000000 ffffffff 00 00", copy.extended_copy,
        action=0x00, medium=True, writes=True,
    ),
    Row(
        0x84, "RECEIVE COPY RESULTS: COPY STATUS(LID1)", "84 00 ff 00000000000000 ffffffff 00 00",
        copy_results.copy_status, action=0x00, access=Access.READS,
    ),
    Row(
        0x84, "RECEIVE COPY RESULTS: OPERATING PARAMETERS", "84 03 ff 00000000000000 ffffffff 00 00",
        copy_results.operating_parameters, action=0x03, access=Access.READS,
    ),
    Row(
        0x84, "RECEIVE COPY RESULTS: FAILED SEGMENT DETAILS(LID1)",
        "84 04 ff 00000000000000 ffffffff 00 00", copy_results.failed_segment_details,
        action=0x04, access=Access.READS,
    ),
]  # fmt: skip

_READS = [
    Row(0x08, "READ(6)", "08 1f ffff ff 00", transfer.read_6, blocks=BLOCKS_6, medium=True),
    Row(0x28, "READ(10)", "28 18 ffffffff 3f ffff 00", transfer.read_10, blocks=BLOCKS_10, medium=True),
    Row(0xA8, "READ(12)", "a8 18 ffffffff ffffffff 3f 00", transfer.read_12, blocks=BLOCKS_12, medium=True),
    Row(
        0x88, "READ(16)", "88 18 ffffffffffffffff ffffffff 3f 00", transfer.read_16,
        blocks=BLOCKS_16, medium=True,
    ),
    Row(0x34, "PRE-FETCH(10)", "34 02 ffffffff 3f ffff 00", transfer.prefetch, blocks=BLOCKS_10, medium=True),
    Row(
        0x90, "PRE-FETCH(16)", "90 02 ffffffffffffffff ffffffff 3f 00", transfer.prefetch,
        blocks=BLOCKS_16, medium=True,
    ),
    Row(0x2F, "VERIFY(10)", "2f 16 ffffffff 3f ffff 00", verification.verify, blocks=BLOCKS_10, medium=True),
    Row(
        0xAF, "VERIFY(12)", "af 16 ffffffff ffffffff 3f 00", verification.verify,
        blocks=BLOCKS_12, medium=True,
    ),
    Row(
        0x8F, "VERIFY(16)", "8f 16 ffffffffffffffff ffffffff 3f 00", verification.verify,
        blocks=BLOCKS_16, medium=True,
    ),
]  # fmt: skip

_WRITES = [
    Row(opcode, name, usage, run, blocks=blocks, medium=True, writes=True, exclusive=exclusive)
    for opcode, name, usage, run, blocks, exclusive in (
        (0x0A, "WRITE(6)", "0a 1f ffff ff 00", transfer.write_6, BLOCKS_6, False),
        (0x2A, "WRITE(10)", "2a 18 ffffffff 3f ffff 00", transfer.write_10, BLOCKS_10, False),
        (0xAA, "WRITE(12)", "aa 18 ffffffff ffffffff 3f 00", transfer.write_12, BLOCKS_12, False),
        (0x8A, "WRITE(16)", "8a 18 ffffffffffffffff ffffffff 3f 00", transfer.write_16, BLOCKS_16, False),
        (
            0x2E, "WRITE AND VERIFY(10)", "2e 16 ffffffff 3f ffff 00", verification.write_and_verify,
            BLOCKS_10, True,
        ),
        (
            0xAE, "WRITE AND VERIFY(12)", "ae 16 ffffffff ffffffff 3f 00", verification.write_and_verify,
            BLOCKS_12, True,
        ),
        (
            0x8E, "WRITE AND VERIFY(16)", "8e 16 ffffffffffffffff ffffffff 3f 00",
            verification.write_and_verify, BLOCKS_16, True,
        ),
        (0x41, "WRITE SAME(10)", "41 08 ffffffff 3f ffff 00", provisioning.write_same, BLOCKS_10, False),
        (
            0x93, "WRITE SAME(16)", "93 09 ffffffffffffffff ffffffff 3f 00", provisioning.write_same,
            BLOCKS_16, False,
        ),
        (
            0x89, "COMPARE AND WRITE", "89 18 ffffffffffffffff 000000 ff 3f 00", atomic.compare_and_write,
            COMPARE_AND_WRITE_BLOCKS, True,
        ),
        (0x8B, "ORWRITE(16)", "8b 18 ffffffffffffffff ffffffff 3f 00", atomic.orwrite, BLOCKS_16, True),
    )
]  # fmt: skip

_WRITE_ATOMIC = Row(
    0x9C, "WRITE ATOMIC(16)", "9c 18 ffffffffffffffff 0000 ffff 3f 00", atomic.write_atomic,
    blocks=ATOMIC_BLOCKS, needs=offers.writes_whole, medium=True, writes=True, exclusive=True,
)  # fmt: skip

_MEDIUM = [
    Row(
        0x04, "FORMAT UNIT", "04 38 00 0000 00", erasing.format_unit,
        writes=True, exclusive=True, outlives=True,
    ),
    Row(0x1B, "START STOP UNIT", "1b 01 00 0f f7 00", readiness.start_stop_unit),
    Row(
        0x1E, "PREVENT ALLOW MEDIUM REMOVAL", "1e 00 0000 01 00", readiness.prevent_allow_medium_removal,
        needs=offers.is_removable,
    ),
    Row(0x25, "READ CAPACITY(10)", "25 00 00000000 0000 00 00", capacity.read_capacity_10, medium=True),
    Row(
        0x9E, "READ CAPACITY(16)", "9e 10 0000000000000000 ffffffff 00 00", capacity.read_capacity_16,
        action=0x10, medium=True,
    ),
    Row(
        0x35, "SYNCHRONIZE CACHE(10)", "35 06 ffffffff 3f ffff 00", transfer.synchronize_cache,
        blocks=BLOCKS_10, medium=True, access=Access.WRITES,
    ),
    Row(
        0x91, "SYNCHRONIZE CACHE(16)", "91 06 ffffffffffffffff ffffffff 3f 00", transfer.synchronize_cache,
        blocks=BLOCKS_16, medium=True, access=Access.WRITES,
    ),
    Row(
        0x42, "UNMAP", "42 00 00000000 3f ffff 00", provisioning.unmap,
        needs=offers.can_unmap, medium=True, writes=True,
    ),
    Row(
        0x9E, "GET LBA STATUS(16)", "9e 12 ffffffffffffffff ffffffff 00 00", provisioning.get_lba_status,
        action=0x12, needs=offers.knows_extents, medium=True, access=Access.READS,
    ),
    Row(
        0x37, "READ DEFECT DATA(10)", "37 00 1f 00000000 ffff 00", erasing.read_defect_data_10,
        medium=True, access=Access.READS,
    ),
    Row(
        0xB7, "READ DEFECT DATA(12)", "b7 1f ffffffff ffffffff 00 00", erasing.read_defect_data_12,
        medium=True, access=Access.READS,
    ),
    Row(
        0x48, "SANITIZE: OVERWRITE", "48 a1 0000000000 ffff 00", erasing.sanitize_overwrite,
        action=0x01, writes=True, exclusive=True, outlives=True,
    ),
    Row(
        0x48, "SANITIZE: BLOCK ERASE", "48 a2 0000000000 ffff 00", erasing.sanitize_block_erase,
        action=0x02, needs=offers.can_unmap, writes=True, exclusive=True, outlives=True,
    ),
    Row(
        0x48, "SANITIZE: CRYPTOGRAPHIC ERASE", "48 a3 0000000000 ffff 00", erasing.sanitize_crypto_erase,
        action=0x03, needs=offers.can_erase_key, writes=True, exclusive=True, outlives=True,
    ),
    Row(
        0x48, "SANITIZE: EXIT FAILURE MODE", "48 bf 0000000000 ffff 00", erasing.sanitize_exit_failure_mode,
        action=0x1F, writes=True,
    ),
]  # fmt: skip

DISK = Table(
    [*_EVERY_DEVICE, *_RESERVE_IN, *_RESERVE_OUT, *_COPY, *_READS, *_WRITES, _WRITE_ATOMIC, *_MEDIUM]
)
