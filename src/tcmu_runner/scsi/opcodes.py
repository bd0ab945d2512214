"""THE opcode table of a disk. Clauses: SPC-5 for what every device has, SBC-4 for block devices.

`usage` is written as the CDB lies: opcode, then a mask for each byte, in groups of fields.
"""

from tcmu_runner.scsi.commands import capacity, identity, mode, provisioning, readiness, report, transfer
from tcmu_runner.scsi.table import BLOCKS_6, BLOCKS_10, BLOCKS_12, BLOCKS_16, Row, Table
from tcmu_runner.scsi.unit import Unit


def can_unmap(unit: Unit) -> bool:
    return unit.capabilities.unmap


_ROWS = [
    Row(0x00, "TEST UNIT READY", "00 00 00 00 00 00", readiness.test_unit_ready, medium=True),
    Row(0x03, "REQUEST SENSE", "03 01 00 00 ff 00", readiness.request_sense, attention=False),
    Row(0x08, "READ(6)", "08 1f ffff ff 00", transfer.read_6, blocks=BLOCKS_6, medium=True),
    Row(0x0A, "WRITE(6)", "0a 1f ffff ff 00", transfer.write_6, blocks=BLOCKS_6, medium=True, writes=True),
    Row(0x12, "INQUIRY", "12 01 ff ffff 00", identity.inquiry, attention=False),
    Row(0x15, "MODE SELECT(6)", "15 10 00 00 ff 00", mode.mode_select_6),
    Row(0x1A, "MODE SENSE(6)", "1a 08 ff ff ff 00", mode.mode_sense_6),
    Row(0x1B, "START STOP UNIT", "1b 01 00 00 f7 00", readiness.start_stop_unit),
    Row(0x25, "READ CAPACITY(10)", "25 00 00000000 0000 00 00", capacity.read_capacity_10, medium=True),
    Row(0x28, "READ(10)", "28 18 ffffffff 00 ffff 00", transfer.read_10, blocks=BLOCKS_10, medium=True),
    Row(
        0x2A, "WRITE(10)", "2a 18 ffffffff 00 ffff 00", transfer.write_10,
        blocks=BLOCKS_10, medium=True, writes=True,
    ),
    Row(
        0x35, "SYNCHRONIZE CACHE(10)", "35 02 ffffffff 00 ffff 00", transfer.synchronize_cache,
        blocks=BLOCKS_10, medium=True,
    ),
    Row(
        0x41, "WRITE SAME(10)", "41 08 ffffffff 00 ffff 00", provisioning.write_same,
        blocks=BLOCKS_10, medium=True, writes=True,
    ),
    Row(
        0x42, "UNMAP", "42 00 00000000 00 ffff 00", provisioning.unmap,
        needs=can_unmap, medium=True, writes=True,
    ),
    Row(0x55, "MODE SELECT(10)", "55 10 00 00 000000 ffff 00", mode.mode_select_10),
    Row(0x5A, "MODE SENSE(10)", "5a 18 ff ff 000000 ffff 00", mode.mode_sense_10),
    Row(
        0x88, "READ(16)", "88 18 ffffffffffffffff ffffffff 00 00", transfer.read_16,
        blocks=BLOCKS_16, medium=True,
    ),
    Row(
        0x8A, "WRITE(16)", "8a 18 ffffffffffffffff ffffffff 00 00", transfer.write_16,
        blocks=BLOCKS_16, medium=True, writes=True,
    ),
    Row(
        0x91, "SYNCHRONIZE CACHE(16)", "91 02 ffffffffffffffff ffffffff 00 00", transfer.synchronize_cache,
        blocks=BLOCKS_16, medium=True,
    ),
    Row(
        0x93, "WRITE SAME(16)", "93 09 ffffffffffffffff ffffffff 00 00", provisioning.write_same,
        blocks=BLOCKS_16, medium=True, writes=True,
    ),
    Row(
        0x9E, "READ CAPACITY(16)", "9e 10 0000000000000000 ffffffff 00 00", capacity.read_capacity_16,
        action=0x10, medium=True,
    ),
    Row(
        0xA3, "REPORT SUPPORTED OPERATION CODES", "a3 0c 87 ff ffff ffffffff 00 00",
        report.report_supported_operation_codes, action=0x0C,
    ),
    Row(0xA8, "READ(12)", "a8 18 ffffffff ffffffff 00 00", transfer.read_12, blocks=BLOCKS_12, medium=True),
    Row(
        0xAA, "WRITE(12)", "aa 18 ffffffff ffffffff 00 00", transfer.write_12,
        blocks=BLOCKS_12, medium=True, writes=True,
    ),
]  # fmt: skip

DISK = Table(_ROWS)
