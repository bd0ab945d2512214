"""Where the fields of a CDB lie: the reader, the mask and the maker say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.ring.layout import CDB_LENGTHS
from tcmu_runner.scsi.cdb_layout import BLOCKS_6, BLOCKS_10, BLOCKS_12, BLOCKS_16, CdbLayout
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Row

COMPARE_AND_WRITE = DISK.row("COMPARE AND WRITE").layout
WRITE_ATOMIC = DISK.row("WRITE ATOMIC(16)").layout


@pytest.mark.parametrize(
    ("layout", "cdb", "blocks"),
    [
        (BLOCKS_6, "08 1f ffff 02 00", (0x1FFFFF, 2)),  # SBC-3 table 65: LBA of 21 bits
        (BLOCKS_6, "08 e0 0001 00 00", (1, 256)),  # SBC-3 5.9: 0 means 256 blocks
        (BLOCKS_10, "28 ff 01020304 ff 0506 ff", (0x01020304, 0x0506)),  # SBC-4 table 69
        (BLOCKS_12, "a8 ff 01020304 05060708 ff ff", (0x01020304, 0x05060708)),
        (BLOCKS_16, "88 ff 0102030405060708 090a0b0c ff ff", (0x0102030405060708, 0x090A0B0C)),
        (COMPARE_AND_WRITE, "89 ff 0102030405060708 ffffff 09 ff ff", (0x0102030405060708, 9)),
        (WRITE_ATOMIC, "9c ff 0102030405060708 ffff 090a ff ff", (0x0102030405060708, 0x090A)),
    ],
)
def test_lba_and_count_are_read(layout: CdbLayout, cdb: str, blocks: tuple[int, int]) -> None:
    reader = layout.reader()
    assert reader is not None
    assert reader(bytes.fromhex(cdb)) == blocks
    assert layout.address(bytes.fromhex(cdb)) == blocks[0]


@pytest.mark.parametrize(
    ("layout", "mask"),
    [
        (BLOCKS_6, "00 1f ffff ff 00"),
        (BLOCKS_10, "00 00 ffffffff 00 ffff 00"),
        (COMPARE_AND_WRITE, "00 00 ffffffffffffffff 000000 ff 00 00"),
        (CdbLayout(10, length=(5, 4)), "00 00 000000 ffffffff 00"),
        (CdbLayout(16, lba=(2, 8), length=(10, 4)), "00 00 ffffffffffffffff ffffffff 00 00"),
        (CdbLayout(10, length=8), "00 00 00000000 00 0000 00"),  # a length that is no field
    ],
)
def test_the_bits_of_the_fields(layout: CdbLayout, mask: str) -> None:
    assert layout.mask.to_bytes(layout.size, "big") == bytes.fromhex(mask)


@given(st.sampled_from([row for row in DISK if row.blocks is not None]), st.data())
def test_what_is_made_reads_as_it_was_asked_for(row: Row, data: st.DataObject) -> None:
    assert row.layout.lba is not None and row.layout.count is not None and row.blocks is not None
    lba = data.draw(st.integers(0, (1 << min(row.layout.lba_bits, 8 * row.layout.lba[1])) - 1))
    count = data.draw(st.integers(1, (1 << 8 * row.layout.count[1]) - 1))
    cdb = row.cdb(lba, count)
    assert (cdb[0], len(cdb)) == (row.opcode, row.layout.size)
    assert row.blocks(cdb) == (lba, count)
    assert not int.from_bytes(cdb, "big") & ~int.from_bytes(row.mask, "big")


@pytest.mark.parametrize(
    ("layout", "cdb", "length"),
    [
        (CdbLayout(6, length=(3, 2)), "12 00 00 0124 00", 0x124),  # INQUIRY: SPC-5 table 142
        (CdbLayout(10, length=(6, 3)), "3c 02 00 ffffff 010203 00", 0x010203),
        (CdbLayout(10, length=8), "25 00 00000000 0000 00 00", 8),
        (CdbLayout(6), "04 18 00 0000 00", None),
    ],
)
def test_length_of_data(layout: CdbLayout, cdb: str, length: int | None) -> None:
    assert layout.data_length(bytes.fromhex(cdb)) == length


@pytest.mark.parametrize("row", list(DISK), ids=lambda row: row.name)
def test_a_cdb_is_as_long_as_its_opcode_says(row: Row) -> None:
    """The ring cuts CDBs by the group code in the opcode (SPC-5 4.2.5.1)."""
    assert row.layout.size == CDB_LENGTHS[row.opcode]


@pytest.mark.parametrize("row", list(DISK), ids=lambda row: row.name)
def test_a_flag_is_no_bit_of_the_fields(row: Row) -> None:
    flags = bytes((0, *bytes.fromhex(row.flags))).ljust(row.layout.size, b"\0")
    assert not int.from_bytes(flags, "big") & row.layout.mask
