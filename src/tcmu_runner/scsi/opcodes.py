"""THE opcode table of a disk. Clauses: SPC-5 for what every device has, SBC-4 for block devices.

A row's layout has the positions of LBA, number of blocks and length of data. After it come the other bits
that the command evaluates, as hex from byte 1 of the CDB on. Fields that the unit does not use are in
`refuses` or `ignores`. There is no protection information, so the 32-byte forms of READ, WRITE, VERIFY and
WRITE SAME, which are for protection type 2 (SBC-4 4.21.2.4), are missing.
"""

from __future__ import annotations

from tcmu_runner.scsi import conditions
from tcmu_runner.scsi import fields as bits
from tcmu_runner.scsi.cdb_layout import (
    BLOCKS_6,
    BLOCKS_10,
    BLOCKS_12,
    BLOCKS_16,
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
    capacity,
    compare_and_write,
    copy_results,
    diagnostic,
    extended_copy,
    format_sanitize,
    inquiry,
    log,
    mode,
    persistent_reserve,
    provisioning,
    read_write,
    report,
    start_stop,
    verification,
)
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.table import Moves, Row, Table, always

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
        needs=conditions.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.PARTY_ID_6, bits.EXTENT_ID, bits.EXTENT_LIST_6),
    ),
    Row(
        0x17, "RELEASE(6)", NO_DATA_6, "", persistent_reserve.release_unit,
        needs=conditions.keeps_reservations, access=Access.ALWAYS,
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
        needs=conditions.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.LONGID, bits.EXTENT_ID, bits.PARTY_ID_10, bits.LIST_10),
    ),
    Row(
        0x57, "RELEASE(10)", NO_DATA_10, "", persistent_reserve.release_unit,
        needs=conditions.keeps_reservations, access=Access.ALWAYS,
        refuses=(bits.THIRD_PARTY, bits.EXTENT),
        ignores=(bits.LONGID, bits.EXTENT_ID, bits.PARTY_ID_10, bits.LIST_10),
    ),
    Row(
        0x5A, "MODE SENSE(10)", DATA_10, "18 ff ff", mode.mode_sense_10, moves=Moves.DATA_IN,
        access=Access.READS,
    ),
    Row(
        0xA0, "REPORT LUNS", DATA_12, "00 ff", report.report_luns, moves=Moves.DATA_IN,
        needs=conditions.knows_luns, attention=False, access=Access.ALWAYS,
    ),
    Row(
        0xA3, "REPORT TARGET PORT GROUPS", DATA_12, "e0", alua.report_target_port_groups,
        action=0x0A, moves=Moves.DATA_IN, needs=conditions.knows_ports,
    ),
    Row(
        0xA3, "REPORT SUPPORTED OPERATION CODES", DATA_12, "00 87 ff ffff",
        report.report_supported_operation_codes, action=0x0C, moves=Moves.DATA_IN, access=Access.READS,
    ),
    Row(
        0xA3, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", DATA_12, "00 80",
        report.report_supported_task_management_functions,
        action=0x0D, moves=Moves.DATA_IN, access=Access.READS,
    ),
    Row(
        0xA4, "SET TARGET PORT GROUPS", DATA_12, "", alua.set_target_port_groups,
        action=0x0A, moves=Moves.DATA_OUT, needs=conditions.sets_states, access=Access.WRITES,
    ),
]  # fmt: skip

_RESERVE_IN = [
    Row(
        0x5E, f"PERSISTENT RESERVE IN: {name}", DATA_10, "", run, action=action, moves=Moves.DATA_IN,
        needs=conditions.keeps_reservations,
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
        moves=Moves.DATA_OUT, needs=conditions.keeps_reservations,
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

_READS = [
    Row(
        opcode, name, layout, flags, run, medium=True, moves=Moves.READ, refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, flags, run, refuses, ignores in (
        (0x08, "READ(6)", BLOCKS_6, "", read_write.read_6, (), ()),
        (
            0x28, "READ(10)", BLOCKS_10, "18", read_write.read,
            (bits.RDPROTECT, bits.RELADR), (bits.RARC, bits.FUA_NV, bits.GROUP_10),
        ),
        (
            0xA8, "READ(12)", BLOCKS_12, "18", read_write.read,
            (bits.RDPROTECT, bits.RELADR), (bits.RARC, bits.FUA_NV, bits.GROUP_12),
        ),
        (
            0x88, "READ(16)", BLOCKS_16, "18", read_write.read,
            (bits.RDPROTECT,), (bits.RARC, bits.FUA_NV, bits.DLD2, bits.DLD, bits.GROUP_16),
        ),
    )
]  # fmt: skip

_LOOKS = [
    Row(opcode, name, layout, "02", read_write.prefetch, medium=True, refuses=refuses, ignores=ignores)
    for opcode, name, layout, refuses, ignores in (
        (0x34, "PRE-FETCH(10)", BLOCKS_10, (bits.RELADR,), (bits.GROUP_10,)),
        (0x90, "PRE-FETCH(16)", BLOCKS_16, (), (bits.GROUP_16,)),
    )
] + [
    Row(
        opcode, name, layout, "16", verification.verify, medium=True,
        moves=Moves.DATA_OUT, data_blocks=verification.blocks_sent, refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, refuses, ignores in (
        (0x2F, "VERIFY(10)", BLOCKS_10, (bits.VRPROTECT, bits.RELADR), (bits.GROUP_10,)),
        (0xAF, "VERIFY(12)", BLOCKS_12, (bits.VRPROTECT, bits.RELADR), (bits.GROUP_12,)),
        (0x8F, "VERIFY(16)", BLOCKS_16, (bits.VRPROTECT,), (bits.GROUP_16,)),
    )
]  # fmt: skip

_WRITES = [
    Row(
        opcode, name, layout, flags, run, medium=True, writes=True, moves=Moves.WRITE,
        refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, flags, run, refuses, ignores in (
        (0x0A, "WRITE(6)", BLOCKS_6, "", read_write.write_6, (), ()),
        (
            0x2A, "WRITE(10)", BLOCKS_10, "18", read_write.write,
            (bits.WRPROTECT, bits.RELADR), (bits.FUA_NV, bits.GROUP_10),
        ),
        (
            0xAA, "WRITE(12)", BLOCKS_12, "18", read_write.write,
            (bits.WRPROTECT, bits.RELADR), (bits.FUA_NV, bits.GROUP_12),
        ),
        (
            0x8A, "WRITE(16)", BLOCKS_16, "18", read_write.write,
            (bits.WRPROTECT,), (bits.FUA_NV, bits.DLD2, bits.DLD, bits.GROUP_16),
        ),
    )
]  # fmt: skip

_WRITES_SAME = [
    Row(
        opcode, name, layout, flags, provisioning.write_same, medium=True, writes=True,
        moves=Moves.WRITE, data_blocks=provisioning.blocks_sent, refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, flags, refuses, ignores in (
        (
            0x41, "WRITE SAME(10)", BLOCKS_10, "08",
            (bits.WRPROTECT, bits.ANCHOR, bits.PBDATA, bits.LBDATA, bits.RELADR), (bits.GROUP_10,),
        ),
        (
            0x93, "WRITE SAME(16)", BLOCKS_16, "09",
            (bits.WRPROTECT, bits.ANCHOR, bits.PBDATA, bits.LBDATA), (bits.GROUP_16,),
        ),
    )
]  # fmt: skip

_EXCLUSIVE_WRITES = [
    Row(
        opcode, name, layout, flags, run, medium=True, writes=True, moves=Moves.WRITE, exclusive=True,
        refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, flags, run, refuses, ignores in (
        (
            0x2E, "WRITE AND VERIFY(10)", BLOCKS_10, "16", verification.write_and_verify,
            (bits.WRPROTECT, bits.RELADR), (bits.EBP, bits.GROUP_10),
        ),
        (
            0xAE, "WRITE AND VERIFY(12)", BLOCKS_12, "16", verification.write_and_verify,
            (bits.WRPROTECT, bits.RELADR), (bits.EBP, bits.GROUP_12),
        ),
        (
            0x8E, "WRITE AND VERIFY(16)", BLOCKS_16, "16", verification.write_and_verify,
            (bits.WRPROTECT,), (bits.GROUP_16,),
        ),
        (
            0x8B, "ORWRITE(16)", BLOCKS_16, "18", compare_and_write.orwrite,
            (bits.ORPROTECT,), (bits.FUA_NV, bits.GROUP_16),
        ),
    )
]  # fmt: skip

_COMPARE_AND_WRITE = Row(
    0x89, "COMPARE AND WRITE", CdbLayout(16, lba=(2, 8), count=(13, 1)),  # SBC-4 table 40
    "18", compare_and_write.compare_and_write,
    medium=True, writes=True, moves=Moves.WRITE, data_blocks=compare_and_write.blocks_sent, exclusive=True,
    refuses=(bits.WRPROTECT,), ignores=(bits.FUA_NV, bits.GROUP_16),
)  # fmt: skip

_WRITE_ATOMIC = Row(
    0x9C, "WRITE ATOMIC(16)", CdbLayout(16, lba=(2, 8), count=(12, 2)),  # SBC-4 table 150
    "18", compare_and_write.write_atomic,
    needs=conditions.writes_whole, medium=True, writes=True, moves=Moves.WRITE, exclusive=True,
    refuses=(bits.WRPROTECT, bits.BOUNDARY), ignores=(bits.GROUP_16,),
)  # fmt: skip

_SANITIZE = [
    Row(
        0x48, f"SANITIZE: {name}", DATA_10, "a0", run, action=action, moves=Moves.DATA_OUT, needs=needs,
        writes=True, exclusive=erases, outlives=erases, refuses=(bits.ZNR, bits.ERASE_RESERVED),
    )
    for action, name, run, needs, erases in (
        (0x01, "OVERWRITE", format_sanitize.sanitize_overwrite, always, True),
        (0x02, "BLOCK ERASE", format_sanitize.sanitize_block_erase, conditions.can_unmap, True),
        (0x03, "CRYPTOGRAPHIC ERASE", format_sanitize.sanitize_crypto_erase, conditions.can_erase_key, True),
        (0x1F, "EXIT FAILURE MODE", format_sanitize.sanitize_exit_failure_mode, always, False),
    )
]  # fmt: skip

_MEDIUM = [
    Row(
        0x04, "FORMAT UNIT", NO_DATA_6, "38", format_sanitize.format_unit, moves=Moves.DATA_OUT,
        writes=True, exclusive=True, outlives=True,
        refuses=(bits.FMTPINFO, bits.DEFECT_FORMAT, bits.FFMT),
        ignores=(bits.VENDOR, bits.INTERLEAVE, bits.INTERLEAVE_LOW),
    ),
    Row(0x1B, "START STOP UNIT", NO_DATA_6, "01 00 0f f7", start_stop.start_stop_unit),
    Row(
        0x1E, "PREVENT ALLOW MEDIUM REMOVAL", NO_DATA_6, "00 0000 03",
        start_stop.prevent_allow_medium_removal,
        needs=conditions.is_removable, refuses=(bits.PREVENT_CHANGER,),
    ),
    Row(
        0x25, "READ CAPACITY(10)", CdbLayout(10, lba=(2, 4), length=8),  # SBC-4 table 84
        "00 00000000 0000 01", capacity.read_capacity_10, moves=Moves.DATA_IN,
        medium=True, ignores=(bits.RELADR_OF_NONE,),
    ),
    Row(
        0x9E, "READ CAPACITY(16)", DATA_16, "", capacity.read_capacity_16, action=0x10, moves=Moves.DATA_IN,
        medium=True, ignores=(bits.CAPACITY_LBA, bits.CAPACITY_PMI),
    ),
    Row(
        0x35, "SYNCHRONIZE CACHE(10)", BLOCKS_10, "02", read_write.synchronize_cache,
        medium=True, access=Access.WRITES, refuses=(bits.RELADR,), ignores=(bits.SYNC_NV, bits.GROUP_10),
    ),
    Row(
        0x91, "SYNCHRONIZE CACHE(16)", BLOCKS_16, "02", read_write.synchronize_cache,
        medium=True, access=Access.WRITES, ignores=(bits.SYNC_NV, bits.GROUP_16),
    ),
    Row(
        0x42, "UNMAP", DATA_10, "", provisioning.unmap, moves=Moves.DATA_OUT,
        needs=conditions.can_unmap, medium=True, writes=True, refuses=(bits.UNMAP_ANCHOR,),
        ignores=(bits.GROUP_10,),
    ),
    Row(
        0x9E, "GET LBA STATUS(16)", CdbLayout(16, lba=(2, 8), length=(10, 4)), "",
        provisioning.get_lba_status, action=0x12, moves=Moves.DATA_IN,
        needs=conditions.knows_extents, medium=True, access=Access.READS, refuses=(bits.REPORT_TYPE,),
    ),
    Row(
        0x37, "READ DEFECT DATA(10)", DATA_10, "00 1f", format_sanitize.read_defect_data_10,
        moves=Moves.DATA_IN, medium=True, access=Access.READS,
    ),
    Row(
        0xB7, "READ DEFECT DATA(12)", DATA_12, "1f ffffffff", format_sanitize.read_defect_data_12,
        moves=Moves.DATA_IN, medium=True, access=Access.READS,
    ),
    *_SANITIZE,
]  # fmt: skip

DISK = Table(
        [
        *_EVERY_DEVICE, *_RESERVE_IN, *_RESERVE_OUT, *_COPY,
        *_READS, *_LOOKS, *_WRITES, *_WRITES_SAME, *_EXCLUSIVE_WRITES, _COMPARE_AND_WRITE, _WRITE_ATOMIC,
        *_MEDIUM,
    ]
)  # fmt: skip
