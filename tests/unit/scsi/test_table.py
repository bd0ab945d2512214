import pytest

from tcmu_runner.cli import top
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.table import Moves
from tcmu_runner.scsi.unit import Limits, Unit
from tcmu_runner.testing.play import EVERYTHING, disk, play
from tcmu_runner.web import report


@pytest.mark.parametrize("opcode", range(256))
def test_every_opcode_is_answered_at_once(opcode: int) -> None:
    """prior-art 2.1 #8: opcodes C0 to FF and the reserved group never got an answer."""
    for length in (6, 10, 12, 16, 32):
        cdb = bytes((opcode,)) + bytes(length - 1)
        unit = disk()
        outcome = _ending(unit, cdb)
        assert outcome in (0x00, 0x02)


def _ending(unit: Unit, cdb: bytes) -> int:
    try:
        unit.begin(Command(cdb, [memoryview(bytearray(4096))], Nexus()))
    except ScsiError:
        return 2
    return 0


@pytest.mark.parametrize("opcode", [0xC0, 0xFF, 0x60, 0x02, 0x7E])
def test_an_unknown_opcode_is_an_invalid_command_operation_code(opcode: int) -> None:
    # SPC-5 4.2.1.2 and annex F: 5/20/00 INVALID COMMAND OPERATION CODE; prior-art 2.1 #8
    assert play(disk(), bytes((opcode,)) + bytes(15)).triple == "5/20/00"


@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7, 9, 10, 11, 12, 15, 16, 31, 32, 260])
def test_a_cdb_of_any_length_is_answered(length: int) -> None:
    """prior-art 2.1 #9: helpers aborted the process on a CDB that was not 6, 10, 12 or 16 bytes long."""
    for opcode in (0x00, 0x28, 0x7F, 0x9E, 0xA3, 0xC1):
        cdb = (bytes((opcode,)) + bytes(259))[:length]
        assert _ending(disk(), cdb) in (0x00, 0x02)


def test_an_unknown_service_action_points_at_it() -> None:
    # SPC-5 4.2.1.3: an unsupported service action is 5/24/00; the pointer shows byte 1
    outcome = play(disk(), "9e 1f 0000000000000000 00000000 00 00")
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex(" ") == "c0 00 01"


@pytest.mark.parametrize("high_bits", [0x20, 0x40, 0x80, 0xE0])
def test_reserved_bits_beside_a_service_action_make_no_difference(high_bits: int) -> None:
    """prior-art 2.1 #12: the service action of MAINTENANCE commands was compared unmasked."""
    cdb = bytes((0xA3, high_bits | 0x0C)) + bytes.fromhex("00 00 0000 00000100 00 00")
    assert play(disk(), cdb, room=256).data == play(disk(), bytes((0xA3, 0x0C)) + cdb[2:], room=256).data


def test_naca_is_refused() -> None:
    # SAM-5 5.2: NACA with NORMACA clear is INVALID FIELD IN CDB, here byte 5 bit 2
    outcome = play(disk(), "00 00 00 00 00 04")
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex(" ") == "ca 00 05"


def test_which_commands_are_reads_and_writes() -> None:
    """SBC-4 table 33: READ reads blocks; WRITE, WRITE AND VERIFY, WRITE SAME, COMPARE AND WRITE, ORWRITE and
    WRITE ATOMIC write them. WRITE BUFFER writes no block, UNMAP and FORMAT UNIT have no data for them."""
    assert DISK.moving(Moves.READ) == {0x08, 0x28, 0xA8, 0x88}
    assert DISK.moving(Moves.WRITE) == {
        0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x41, 0x93, 0x89, 0x8B, 0x9C,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cdb", "length"),
    [
        ("28 00 00000000 00 0003 00", 1536),
        ("8a 00 0000000000000000 00000003 00 00", 1536),
        ("0a 00 0000 00 00", 256 * 512),  # SBC-3 5.9: 0 means 256
        ("89 00 0000000000000000 000000 02 00 00", 2048),  # COMPARE AND WRITE: SBC-4 5.3, each block twice
        ("41 00 00000000 00 0009 00", 512),  # WRITE SAME: SBC-4 5.52, one block
        ("93 01 0000000000000000 00000009 00 00", 0),  # NDOB: none
        ("2f 00 00000000 00 0009 00", 0),  # VERIFY, BYTCHK 00b: SBC-4 5.40
        ("2f 02 00000000 00 0009 00", 4608),  # 01b
        ("2f 06 00000000 00 0009 00", 512),  # 11b
        ("2f 06 00000000 00 0000 00", 0),  # VERIFICATION LENGTH 0: nothing is verified
        ("90 00 0000000000000000 00000009 00 00", 0),  # PRE-FETCH: SBC-4 5.12
        ("91 00 0000000000000000 00000009 00 00", 0),  # SYNCHRONIZE CACHE: SBC-4 5.38
        ("00 00 00 00 00 00", 0),
        ("42 00 00000000 00 0018 00", 24),  # UNMAP: SBC-4 5.39
        ("55 10 00 00 000000 0102 00", 0x102),  # MODE SELECT(10): SPC-5 6.12
        ("83 00 0000000000000000 00010203 00 00", 0x10203),  # EXTENDED COPY: SPC-5 6.6
        ("48 81 0000000000 0204 00", 0x204),  # SANITIZE: SBC-4 5.35
        ("5f 00 00 0000 00000018 00", 24),  # PERSISTENT RESERVE OUT: SPC-5 6.16
        ("04 10 00 0000 00", None),  # FORMAT UNIT: SBC-4 5.4, the list says its length
        ("12 00 00 0124 00", 0x124),  # INQUIRY and others: SPC-5 4.2.5.6, at most
        ("3c 02 00 000000 010203 00", 0x10203),  # READ BUFFER: SPC-5 6.18
        ("25 00 00000000 0000 00 00", 8),  # READ CAPACITY(10): SBC-4 table 84
        ("9e 12 0000000000000000 00000018 00 00", 24),  # GET LBA STATUS: SBC-4 5.6
    ],
)
def test_how_much_data_a_cdb_says(cdb: str, length: int | None) -> None:
    row = DISK.look_up(bytes.fromhex(cdb))
    assert row is not None
    assert row.data_length(bytes.fromhex(cdb), 512) == length


def test_every_row_says_where_the_length_of_its_data_stands() -> None:
    """FORMAT UNIT is the one whose CDB has no such field (SBC-4 5.4)."""
    without = [
        row.name
        for row in DISK
        if row.moves is not Moves.NOTHING and row.blocks is None and row.layout.length is None
    ]
    assert without == ["FORMAT UNIT"]
    assert not any(row.layout.length for row in DISK if row.moves is Moves.NOTHING)


def test_a_row_by_its_name() -> None:
    row = DISK.row("WRITE SAME(16)")
    assert (row.opcode, row.name) == (0x93, "WRITE SAME(16)")
    assert DISK.row("GET LBA STATUS(16)").action == 0x12
    with pytest.raises(KeyError):
        DISK.row("WRITE SAME(17)")
    assert DISK.look_up(bytes.fromhex("c1 00 00000000 00 0000 00")) is None
    assert DISK.look_up(bytes.fromhex("9e 1f 0000000000000000 00000000 00 00")) is None


def test_top_and_the_status_page_agree_on_them() -> None:
    assert (top.READS, top.WRITES) == (report._READS, report._WRITES)
    assert (DISK.moving(Moves.READ), DISK.moving(Moves.WRITE)) == (top.READS, top.WRITES)


def test_every_write_is_refused_on_a_write_protected_unit() -> None:
    assert all(row.writes and row.blocks for row in DISK if row.moves is Moves.WRITE)
    assert not any(row.writes for row in DISK if row.moves is Moves.READ)


@pytest.mark.parametrize(
    ("cdb", "byte"),
    [
        ("41 00 00000000 00 0000 00", 7),  # WRITE SAME(10) of no blocks, with WSNZ
        ("93 00 0000000000000000 00000000 00 00", 10),
        ("89 00 0000000000000000 000000 01 00 00", 13),  # COMPARE AND WRITE without its data
        ("9c 00 0000000000000000 0000 0009 00 00", 12),  # WRITE ATOMIC above its limit
        ("4c 00 00 00 000000 0004 00", 7),  # LOG SELECT with a parameter list
        ("48 81 0000000000 0004 00", 7),  # SANITIZE: OVERWRITE without a pattern
        ("48 82 0000000000 0004 00", 7),
    ],
)
def test_a_wrong_number_is_pointed_at(cdb: str, byte: int) -> None:
    """SPC-5 4.4.2.5: SKSV, C/D, and where the field begins."""
    unit = disk(EVERYTHING, limits=Limits(max_atomic=8, write_same_to_end=False))
    outcome = play(unit, cdb)
    assert outcome.triple == "5/24/00"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18] == bytes((0xC0, 0, byte))
