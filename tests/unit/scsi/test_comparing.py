import errno
from dataclasses import replace

import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import CompareAndWrite, Read, Write
from tcmu_runner.scsi.unit import Capabilities, Limits
from tcmu_runner.testing.play import EVERYTHING, bytes_of, disk, play, space

BLOCK, OTHER = bytes(range(256)) * 2, bytes(range(255, -1, -1)) * 2
# LBA 8, two blocks; byte 1 is BYTCHK << 1 (SBC-4 tables 141 ff., 146 ff.)
VERIFIES = [
    "2f {:02x} 00000008 00 0002 00", "af {:02x} 00000008 00000002 00 00",
    "8f {:02x} 0000000000000008 00000002 00 00",
]  # fmt: skip
WRITES_AND_VERIFIES = [
    "2e {:02x} 00000008 00 0002 00", "ae {:02x} 00000008 00000002 00 00",
    "8e {:02x} 0000000000000008 00000002 00 00",
]  # fmt: skip
CAW = "89 {:02x} 0000000000000008 000000 {:02x} 00 00"  # SBC-4 table 40
READ_1, READ_BACK = Read(8 * 512, space(512)), Read(8 * 512, space(1024))


@pytest.mark.parametrize("cdb", VERIFIES)
def test_verify_the_medium(cdb: str) -> None:
    # BYTCHK 00b: no data-out, the blocks are read
    assert play(disk(), cdb.format(0), (READ_BACK, BLOCK * 2)).status == 0


@pytest.mark.parametrize("cdb", VERIFIES)
def test_verify_all_the_data(cdb: str) -> None:
    # BYTCHK 01b: compared with as many blocks of data-out
    assert play(disk(), cdb.format(2), (READ_BACK, BLOCK * 2), out=BLOCK * 2).status == 0


@pytest.mark.parametrize("cdb", VERIFIES)
def test_verify_finds_a_difference(cdb: str) -> None:
    # SBC-4 5.36: MISCOMPARE, 1D/00 MISCOMPARE DURING VERIFY OPERATION, with the offset of the first bad byte
    changed = BLOCK + b"\xff" + BLOCK[1:]
    outcome = play(disk(), cdb.format(2), (READ_BACK, BLOCK * 2), out=changed)
    assert outcome.triple == "E/1D/00"
    assert outcome.sense is not None
    assert outcome.sense.information == 512


@pytest.mark.parametrize("cdb", VERIFIES)
def test_verify_with_one_block(cdb: str) -> None:
    # BYTCHK 11b: one block of data-out, compared with each block
    assert play(disk(), cdb.format(6), (READ_BACK, BLOCK * 2), out=BLOCK).status == 0
    outcome = play(disk(), cdb.format(6), (READ_BACK, BLOCK + OTHER), out=BLOCK)
    assert outcome.triple == "E/1D/00"
    assert outcome.sense is not None
    assert outcome.sense.information == 512


@pytest.mark.parametrize("cdb", [VERIFIES[0].format(4), WRITES_AND_VERIFIES[0].format(4),
                                 WRITES_AND_VERIFIES[0].format(6)])  # fmt: skip
def test_reserved_ways_of_checking(cdb: str) -> None:
    # SBC-4 tables 142 and 147: VERIFY has no 10b, WRITE AND VERIFY neither 10b nor 11b
    assert play(disk(), cdb, out=BLOCK * 2).triple == "5/24/00"


@pytest.mark.parametrize("check", [0, 2, 6])
def test_verify_of_no_blocks(check: int) -> None:
    # SBC-4 5.36: VERIFICATION LENGTH zero is no error, up to the end of the medium
    for lba, status in ((0, 0), (1024, 0), (1025, 2)):
        cdb = bytes((0x2F, check)) + lba.to_bytes(4, "big") + bytes(4)
        assert play(disk(), cdb).status == status


def test_verify_without_its_data() -> None:
    assert play(disk(), VERIFIES[0].format(2), out=BLOCK).triple == "5/24/00"
    assert play(disk(), VERIFIES[0].format(6), out=BLOCK[:-1]).triple == "5/24/00"


@pytest.mark.parametrize("check", [2, 6])
def test_verify_in_chunks(check: int) -> None:
    unit = disk(blocks=1 << 16)
    count = 2048 + 3  # a mebibyte and a bit
    data = BLOCK * count
    steps = (
        (Read(0, space(1 << 20)), BLOCK * 2048), (Read(1 << 20, space(3 * 512)), BLOCK * 2 + OTHER),
    )  # fmt: skip
    cdb = bytes((0x2F, check)) + bytes(5) + count.to_bytes(2, "big") + b"\0"
    outcome = play(unit, cdb, *steps, out=data if check == 2 else BLOCK)
    assert outcome.triple == "E/1D/00"
    assert outcome.sense is not None
    assert outcome.sense.information == (1 << 20) + 1024


def test_verify_of_data_above_the_limit() -> None:
    unit = disk(limits=Limits(max_transfer=1))
    assert play(unit, VERIFIES[0].format(2), out=BLOCK * 2).triple == "5/24/00"
    assert play(unit, VERIFIES[0].format(0), (READ_BACK, BLOCK * 2)).status == 0  # nothing is transferred


def test_protection_is_refused() -> None:
    for cdb in (VERIFIES[0], WRITES_AND_VERIFIES[0]):
        assert play(disk(), cdb.format(0x20), out=BLOCK * 2).triple == "5/24/00"


@pytest.mark.parametrize("cdb", WRITES_AND_VERIFIES)
@pytest.mark.parametrize("check", [0, 2])
def test_write_and_verify(cdb: str, check: int) -> None:
    # SBC-4 5.44: written through to the medium, then verified
    steps = ((Write(8 * 512, bytes_of(BLOCK * 2), fua=True), None), (READ_BACK, BLOCK * 2))
    assert play(disk(), cdb.format(check), *steps, out=BLOCK * 2).status == 0


def test_write_and_verify_that_reads_back_something_else() -> None:
    steps = ((Write, None), (READ_BACK, BLOCK + OTHER))
    assert play(disk(), WRITES_AND_VERIFIES[0].format(2), *steps, out=BLOCK * 2).triple == "E/1D/00"


def test_write_and_verify_with_too_little_data() -> None:
    assert play(disk(), WRITES_AND_VERIFIES[0].format(2), out=BLOCK).triple == "5/24/00"


def test_write_and_verify_where_the_transport_tells_residuals() -> None:
    # RFC 7143 11.4.5.1: the data that came is taken, the rest is residual overflow
    unit = disk()
    unit.tells_residuals = True
    steps = ((Write(8 * 512, bytes_of(BLOCK), fua=True), None), (Read(8 * 512, space(512)), BLOCK))
    assert play(unit, WRITES_AND_VERIFIES[0].format(2), *steps, out=BLOCK).status == 0


def test_write_and_verify_of_part_of_a_block() -> None:
    unit = disk()
    unit.tells_residuals = True
    merged = b"\xaa" * 200 + BLOCK[200:]
    steps = (
        (Read(8 * 512, space(512)), BLOCK),
        (Write(8 * 512, bytes_of(merged), fua=True), None),
        (Read(8 * 512, space(512)), merged),
    )
    assert play(unit, WRITES_AND_VERIFIES[0].format(2), *steps, out=b"\xaa" * 200).status == 0


def test_write_and_verify_of_no_blocks() -> None:
    assert play(disk(), "2e 02 00000008 00 0000 00").status == 0


def test_exclusive_commands_know_their_blocks() -> None:
    """prior-art 2.1 #6: COMPARE AND WRITE did not exclude plain writes; the engine needs the range."""
    exclusive = {row.opcode for row in DISK if row.exclusive and not row.outlives}
    assert exclusive == {0x89, 0x8B, 0x8E, 0x2E, 0xAE, 0x9C}
    assert all(row.blocks is not None for row in DISK if row.exclusive and not row.outlives)


def test_what_empties_the_medium_excludes_all_others() -> None:
    """FORMAT UNIT and SANITIZE: nothing of an earlier command's may come after them."""
    assert {row.opcode for row in DISK if row.exclusive and row.outlives} == {0x04, 0x48}
    unit = disk()
    for cdb in ("04 00 00 0000 00", "48 02 00000000 00 0000 00"):
        command = Command(bytes.fromhex(cdb), [], Nexus())
        unit.begin(command)
        assert unit.footprint(command) == (0, unit.size)


def test_compare_and_write() -> None:
    # SBC-4 5.3: the first half is compared, the second half written
    steps = ((READ_1, BLOCK), (Write(8 * 512, bytes_of(OTHER)), None))
    assert play(disk(), CAW.format(0, 1), *steps, out=BLOCK + OTHER).status == 0


def test_compare_and_write_of_many_blocks() -> None:
    steps = ((READ_BACK, BLOCK + OTHER), (Write(8 * 512, bytes_of(OTHER + BLOCK)), None))
    outcome = play(disk(), CAW.format(0, 2), *steps, out=BLOCK + OTHER + OTHER + BLOCK, pieces=(700, 600))
    assert outcome.status == 0


@pytest.mark.parametrize("at", [0, 1, 511, 512, 1023])
def test_a_miscompare_writes_nothing_and_tells_where(at: int) -> None:
    # SBC-4 5.3: MISCOMPARE, INFORMATION is the offset of the first differing byte of data-out
    expected = bytearray(BLOCK * 2)
    expected[at] ^= 0x01
    outcome = play(disk(), CAW.format(0, 2), (READ_BACK, BLOCK * 2), out=bytes(expected) + OTHER * 2)
    assert outcome.triple == "E/1D/00"
    assert outcome.sense is not None
    assert outcome.sense.information == at


def test_compare_and_write_through() -> None:
    steps = ((READ_1, BLOCK), (Write(8 * 512, bytes_of(OTHER), fua=True), None))
    assert play(disk(), CAW.format(0x08, 1), *steps, out=BLOCK + OTHER).status == 0


def test_compare_and_write_of_no_blocks() -> None:
    assert play(disk(), CAW.format(0, 0)).status == 0


def test_compare_and_write_by_the_storage() -> None:
    """One operation, for a storage that does it for all hosts at once."""
    unit = disk(replace(EVERYTHING, compare_and_write=True))
    asked = CompareAndWrite(8 * 512, bytes_of(BLOCK), bytes_of(OTHER), fua=True)
    assert play(unit, CAW.format(0x08, 1), (asked, None), out=BLOCK + OTHER).status == 0
    missed = play(unit, CAW.format(0x08, 1), (asked, 77), out=BLOCK + OTHER)
    assert missed.triple == "E/1D/00"
    assert missed.sense is not None
    assert missed.sense.information == 77


@pytest.mark.parametrize("size", [0, 512, 1023, 1025, 2048])
def test_compare_and_write_with_another_length_of_data(size: int) -> None:
    """Nobody can tell what to compare from what to write."""
    assert play(disk(), CAW.format(0, 1), out=bytes(size)).triple == "5/24/00"


def test_compare_and_write_above_its_limit() -> None:
    # SBC-4 6.6.4: MAXIMUM COMPARE AND WRITE LENGTH
    unit = disk(limits=Limits(max_compare_and_write=1))
    assert play(unit, CAW.format(0, 2), out=bytes(2048)).triple == "5/24/00"


def test_no_transfer_is_above_the_limit_of_all() -> None:
    unit = disk(limits=Limits(max_transfer=1))
    assert play(unit, CAW.format(0, 2), out=bytes(2048)).triple == "5/24/00"


def test_compare_and_write_out_of_range() -> None:
    assert play(disk(blocks=8), CAW.format(0, 1), out=bytes(1024)).triple == "5/21/00"


def test_a_failed_write_after_the_comparison() -> None:
    error = OSError(errno.EIO, "broken")
    outcome = play(disk(), CAW.format(0, 1), (READ_1, BLOCK), (Write, error), out=BLOCK + OTHER)
    assert outcome.error is error


def test_compare_and_write_on_a_protected_unit() -> None:
    assert play(disk(Capabilities()), CAW.format(0, 1), out=BLOCK * 2).triple == "7/27/00"
