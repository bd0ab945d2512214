"""THE opcode table of a disk. Clauses: SBC-4; `opcodes_primary` has the rows of what every device has.

A row's layout has the positions of LBA, number of blocks and length of data. After it come the other bits
that the command evaluates, as hex from byte 1 of the CDB on. Fields that the unit does not use are in
`refuses` or `ignores`. There is no protection information, so the 32-byte forms of READ, WRITE, VERIFY and
WRITE SAME, which are for protection type 2 (SBC-4 4.21.2.4), are missing.
"""

from __future__ import annotations

from tcmu_runner.scsi import cdb as bits
from tcmu_runner.scsi import table
from tcmu_runner.scsi.cdb import (
    BLOCKS_6,
    BLOCKS_10,
    BLOCKS_12,
    BLOCKS_16,
    DATA_10,
    DATA_12,
    DATA_16,
    NO_DATA_6,
    CdbLayout,
)
from tcmu_runner.scsi.commands import (
    comparing,
    format_sanitize,
    inquiry,
    provisioning,
    read_write,
    start_stop,
)
from tcmu_runner.scsi.opcodes_primary import PRIMARY
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.table import Moves, Row, Table, always

_READS = [
    Row(
        opcode, name, layout, flags, run, medium=True, moves=Moves.READ, plain=True,
        refuses=refuses, ignores=ignores,
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
        opcode, name, layout, "16", comparing.verify, medium=True,
        moves=Moves.DATA_OUT, data_blocks=comparing.blocks_sent, refuses=refuses, ignores=ignores,
    )
    for opcode, name, layout, refuses, ignores in (
        (0x2F, "VERIFY(10)", BLOCKS_10, (bits.VRPROTECT, bits.RELADR), (bits.GROUP_10,)),
        (0xAF, "VERIFY(12)", BLOCKS_12, (bits.VRPROTECT, bits.RELADR), (bits.GROUP_12,)),
        (0x8F, "VERIFY(16)", BLOCKS_16, (bits.VRPROTECT,), (bits.GROUP_16,)),
    )
]  # fmt: skip

_WRITES = [
    Row(
        opcode, name, layout, flags, run, medium=True, writes=True, moves=Moves.WRITE, plain=True,
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
            0x2E, "WRITE AND VERIFY(10)", BLOCKS_10, "16", comparing.write_and_verify,
            (bits.WRPROTECT, bits.RELADR), (bits.EBP, bits.GROUP_10),
        ),
        (
            0xAE, "WRITE AND VERIFY(12)", BLOCKS_12, "16", comparing.write_and_verify,
            (bits.WRPROTECT, bits.RELADR), (bits.EBP, bits.GROUP_12),
        ),
        (
            0x8E, "WRITE AND VERIFY(16)", BLOCKS_16, "16", comparing.write_and_verify,
            (bits.WRPROTECT,), (bits.GROUP_16,),
        ),
        (
            0x8B, "ORWRITE(16)", BLOCKS_16, "18", read_write.orwrite,
            (bits.ORPROTECT,), (bits.FUA_NV, bits.GROUP_16),
        ),
    )
]  # fmt: skip

_COMPARE_AND_WRITE = Row(
    0x89, "COMPARE AND WRITE", CdbLayout(16, lba=(2, 8), count=(13, 1)),  # SBC-4 table 40
    "18", comparing.compare_and_write,
    medium=True, writes=True, moves=Moves.WRITE, data_blocks=comparing.both_halves, exclusive=True,
    refuses=(bits.WRPROTECT,), ignores=(bits.FUA_NV, bits.GROUP_16),
)  # fmt: skip

_WRITE_ATOMIC = Row(
    0x9C, "WRITE ATOMIC(16)", CdbLayout(16, lba=(2, 8), count=(12, 2)),  # SBC-4 table 150
    "18", read_write.write_atomic,
    needs=table.writes_whole, medium=True, writes=True, moves=Moves.WRITE, exclusive=True,
    refuses=(bits.WRPROTECT, bits.BOUNDARY), ignores=(bits.GROUP_16,),
)  # fmt: skip

_SANITIZE = [
    Row(
        0x48, f"SANITIZE: {name}", DATA_10, "a0", run, action=action, moves=Moves.DATA_OUT, needs=needs,
        writes=True, exclusive=erases, outlives=erases, refuses=(bits.ZNR, bits.ERASE_RESERVED),
    )
    for action, name, run, needs, erases in (
        (0x01, "OVERWRITE", format_sanitize.sanitize_overwrite, always, True),
        (0x02, "BLOCK ERASE", format_sanitize.sanitize_block_erase, table.can_unmap, True),
        (0x03, "CRYPTOGRAPHIC ERASE", format_sanitize.sanitize_crypto_erase, table.can_erase_key, True),
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
        needs=table.is_removable, refuses=(bits.PREVENT_CHANGER,),
    ),
    Row(
        0x25, "READ CAPACITY(10)", CdbLayout(10, lba=(2, 4), length=8),  # SBC-4 table 84
        "00 00000000 0000 01", inquiry.read_capacity_10, moves=Moves.DATA_IN,
        medium=True, ignores=(bits.RELADR_OF_NONE,),
    ),
    Row(
        0x9E, "READ CAPACITY(16)", DATA_16, "", inquiry.read_capacity_16, action=0x10, moves=Moves.DATA_IN,
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
        needs=table.can_unmap, medium=True, writes=True, refuses=(bits.UNMAP_ANCHOR,),
        ignores=(bits.GROUP_10,),
    ),
    Row(
        0x9E, "GET LBA STATUS(16)", CdbLayout(16, lba=(2, 8), length=(10, 4)), "",
        provisioning.get_lba_status, action=0x12, moves=Moves.DATA_IN,
        needs=table.knows_extents, medium=True, access=Access.READS, refuses=(bits.REPORT_TYPE,),
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
        *PRIMARY,
        *_READS, *_LOOKS, *_WRITES, *_WRITES_SAME, *_EXCLUSIVE_WRITES, _COMPARE_AND_WRITE, _WRITE_ATOMIC,
        *_MEDIUM,
    ]
)  # fmt: skip
