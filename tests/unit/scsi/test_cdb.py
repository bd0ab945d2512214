"""Where a CDB has what; fields that are refused or ignored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.ring.layout import CDB_LENGTHS
from tcmu_runner.scsi.cdb import BLOCKS_6, BLOCKS_10, BLOCKS_12, BLOCKS_16, LUN, NACA, CdbLayout, Field
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reservations import Reservations
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.table import Row
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.testing.play import EVERYTHING, disk, play

from .test_alua import Ports

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


ROWS = [pytest.param(row, id=row.name) for row in DISK]

# SCSI-2 has the LUN in byte 1 of every CDB; these have nothing else there since (SPC-5, SBC-4)
WITHOUT_MEANING_IN_BITS_7_TO_5 = [
    "00 00 00 00 00 00",
    "03 00 00 00 12 00",
    "08 00 00 00 01 00",
    "0a 00 00 00 01 00",
    "12 00 00 00 24 00",
    "15 10 00 00 00 00",
    "16 00 00 00 00 00",
    "17 00 00 00 00 00",
    "1a 00 3f 00 ff 00",
    "1b 01 00 00 01 00",
    "1c 00 00 00 ff 00",
    "1e 00 00 00 00 00",
    "25 00 00000000 0000 00 00",
    "34 00 00000000 00 0001 00",
    "35 00 00000000 00 0000 00",
    "37 00 08 00000000 0008 00",
    "3b 0a 00 000000 000000 00",
    "3c 03 00 000000 000004 00",
    "42 00 00000000 00 0000 00",
    "4c 00 00 00 000000 0000 00",
    "4d 00 40 00 00 0000 00ff 00",
    "55 10 00 00 000000 0000 00",
    "56 00 00 00 000000 0000 00",
    "57 00 00 00 000000 0000 00",
    "5a 00 3f 00 000000 00ff 00",
    "5e 02 0000000000 00ff 00",
    "a0 00 00 000000 00000010 00 00",
    "a3 0c 00 00 0000 00000100 00 00",
    "a3 0d 00 000000 00000010 00 00",
    "a4 0a 00000000 00000000 00 00",
    "b7 08 00000000 00000008 00 00",
]


def every_command() -> Unit:
    unit = disk(replace(EVERYTHING, crypto_erase=True))
    unit.removable = True
    unit.reservations = Reservations()
    unit.ports = Ports()
    unit.luns = lambda: [0]
    return unit


def answer(cdb: bytes) -> str:
    """'good', or sense and where it points; of a unit and a nexus to which nothing has happened."""
    unit = every_command()
    try:
        unit.begin(Command(cdb, [memoryview(bytearray(512))], Nexus()))
    except ScsiError as error:
        return error.sense.encode().hex()
    return "good"


def simplest(row: Row) -> bytes:
    """The CDB with nothing set but the opcode and the service action."""
    cdb = bytearray(len(row.mask))
    cdb[0] = row.opcode
    cdb[1] = row.action or 0
    return bytes(cdb)


def with_bits(cdb: bytes, bits: int) -> bytes:
    return (int.from_bytes(cdb, "big") | bits).to_bytes(len(cdb), "big")


def bits_of(row: Row, fields: tuple[Field, ...]) -> int:
    bits = 0
    for each in fields:
        bits |= each.mask(len(row.mask))
    return bits


def test_the_first_inquiry_of_lun_1() -> None:
    """Linux (drivers/scsi/scsi_scan.c) takes a target for one of SCSI-2 until it has INQUIRY data, and puts
    the LUN into the CDB until then. Where that is refused there is no disk."""
    found = play(disk(), "12 20 00 00 24 00", room=36)
    assert found.data == play(disk(), "12 00 00 00 24 00", room=36).data
    assert len(found.data) == 36


@pytest.mark.parametrize("cdb", WITHOUT_MEANING_IN_BITS_7_TO_5)
@pytest.mark.parametrize("lun", [1, 2, 4, 7])
def test_the_lun_of_scsi_2_makes_no_difference(cdb: str, lun: int) -> None:
    plain = bytes.fromhex(cdb)
    assert answer(plain) == "good"
    assert answer(bytes((plain[0], plain[1] | lun << 5)) + plain[2:]) == "good"


def test_the_list_of_commands_with_a_lun_is_complete() -> None:
    """SPC-5 and SBC-4 give the bits another meaning in READ, WRITE, VERIFY and WRITE SAME (protection), in
    FORMAT UNIT, SEND DIAGNOSTIC, SANITIZE and REPORT TARGET PORT GROUPS."""
    others = {0x04, 0x1D, 0x28, 0x2A, 0x2E, 0x2F, 0x41, 0x48, 0xA8, 0xAA, 0xAE, 0xAF}
    listed = {bytes.fromhex(cdb)[0] for cdb in WITHOUT_MEANING_IN_BITS_7_TO_5} | {0x5F}
    unknown = {row.name for row in DISK if len(row.mask) <= 12 and row.opcode not in listed | others}
    assert not unknown, "add a CDB to WITHOUT_MEANING_IN_BITS_7_TO_5, or the opcode to `others`"
    assert listed | others <= {row.opcode for row in DISK}, "remove what is not in the table"


@pytest.mark.parametrize(
    ("cdb", "byte", "bit"),
    [
        ("28 20 00000000 00 0001 00", 1, 5),  # RDPROTECT: SBC-4 5.16
        ("28 01 00000000 00 0001 00", 1, 0),  # RELADR: SCSI-2
        ("88 80 0000000000000000 00000001 00 00", 1, 7),
        ("2a 20 00000000 00 0001 00", 1, 5),  # WRPROTECT
        ("2f 20 00000000 00 0001 00", 1, 5),  # VRPROTECT
        ("8b 20 0000000000000000 00000001 00 00", 1, 5),  # ORPROTECT
        ("41 10 00000000 00 0001 00", 1, 4),  # ANCHOR: SBC-4 5.52, ANC_SUP
        ("41 04 00000000 00 0001 00", 1, 2),  # PBDATA
        ("93 02 0000000000000000 00000001 00 00", 1, 1),  # LBDATA
        ("42 01 00000000 00 0000 00", 1, 0),  # ANCHOR: SBC-4 5.35
        ("9c 00 0000000000000000 0001 0001 00 00", 11, 0),  # ATOMIC BOUNDARY
        ("9e 12 0000000000000000 00000018 01 00", 14, 0),  # REPORT TYPE
        ("04 40 00 00 00 00", 1, 6),  # FMTPINFO
        ("04 14 00 00 00 00", 1, 2),  # DEFECT LIST FORMAT
        ("04 00 00 00 01 00", 4, 0),  # FFMT
        ("48 c2 0000000000 0000 00", 1, 6),  # ZNR
        ("15 11 00 00 00 00", 1, 0),  # SP: SPC-5 6.12
        ("55 12 00 00 000000 0000 00", 1, 1),  # RTD
        ("12 02 00 00 24 00", 1, 1),  # CMDDT: SPC-2 7.3
        ("4d 02 40 00 00 0000 00ff 00", 1, 1),  # PPC
        ("16 10 00 00 00 00", 1, 4),  # 3RDPTY: SPC-2 7.17
        ("56 01 00 00 000000 0000 00", 1, 0),  # EXTENT
        ("1e 00 00 00 02 00", 4, 1),  # PREVENT 10b
        ("12 00 00 00 24 04", 5, 2),  # NACA: SAM-5 5.2
    ],
)
def test_what_asks_for_something_else_is_refused(cdb: str, byte: int, bit: int) -> None:
    """With the pointer of SPC-5 4.4.2.4.2: SKSV, C/D, BPV, the bit; the byte."""
    sense = bytes.fromhex(answer(bytes.fromhex(cdb)))
    assert (sense[2], sense[12:14].hex()) == (5, "2400")
    assert sense[15:18] == bytes((0xC8 | bit, 0, byte))


@pytest.mark.parametrize("row", ROWS)
def test_every_bit_that_is_neither_evaluated_nor_refused_makes_no_difference(row: Row) -> None:
    base = simplest(row)
    plain = answer(base)
    known = int.from_bytes(row.mask, "big") | bits_of(row, row.refuses)
    if row.action is not None:
        known |= Field(1, 0x1F, "SERVICE ACTION", "").mask(len(base))
    for bit in range(8 * (len(base) - 1)):
        if not known >> bit & 1:
            assert answer(with_bits(base, 1 << bit)) == plain, f"bit {bit} from the end"


@pytest.mark.parametrize("row", ROWS)
def test_every_bit_of_a_refused_field_is_refused(row: Row) -> None:
    """With the pointer of SPC-5 4.4.2.4.2 at that bit."""
    refused = bits_of(row, row.refuses)
    for bit in range(8 * len(row.mask)):
        if refused >> bit & 1:
            sense = bytes.fromhex(answer(with_bits(simplest(row), 1 << bit)))
            pointer = bytes((0xC8 | bit % 8, 0, len(row.mask) - 1 - bit // 8))
            found = sense[2] & 0xF, sense[12:14], sense[15:18]
            assert found == (5, b"\x24\x00", pointer), f"bit {bit} from the end"


@pytest.mark.parametrize("row", ROWS)
def test_no_bit_has_two_decisions(row: Row) -> None:
    evaluated, ignored = int.from_bytes(row.mask, "big"), bits_of(row, row.ignores)
    assert not ignored & (evaluated | bits_of(row, row.refuses))
    assert sum(each.mask(len(row.mask)).bit_count() for each in row.ignores) == ignored.bit_count()


def test_places() -> None:
    assert LUN.place(6) == "byte 1 bits 7-5"
    assert NACA.place(10) == "byte 9 bit 2"
    assert Field(2, 0xFF, "", "").place(6) == "byte 2"
    assert Field(2, 0xFFFF, "", "", 2).place(6) == "bytes 2-3"
    assert Field(2, 0xFFFF, "", "", 2).mask(6) == 0x0000_FFFF_0000
    assert NACA.mask(6) == 0x04
