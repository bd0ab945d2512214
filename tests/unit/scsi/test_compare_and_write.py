import errno
from dataclasses import replace

import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import CompareAndWrite, Read, Write
from tcmu_runner.scsi.unit import Capabilities, Limits
from tcmu_runner.testing.play import EVERYTHING, bytes_of, disk, play, space

BLOCK, OTHER = bytes(range(256)) * 2, bytes(range(255, -1, -1)) * 2
CAW = "89 {:02x} 0000000000000008 000000 {:02x} 00 00"  # SBC-4 table 40
ORWRITE = "8b {:02x} 0000000000000008 {:08x} 00 00"  # SBC-4 table 69
ATOMIC = "9c {:02x} 0000000000000008 {:04x} {:04x} 00 00"  # SBC-4 table 150
READ_1, READ_2 = Read(8 * 512, space(512)), Read(8 * 512, space(1024))


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
    steps = ((READ_2, BLOCK + OTHER), (Write(8 * 512, bytes_of(OTHER + BLOCK)), None))
    outcome = play(disk(), CAW.format(0, 2), *steps, out=BLOCK + OTHER + OTHER + BLOCK, pieces=(700, 600))
    assert outcome.status == 0


@pytest.mark.parametrize("at", [0, 1, 511, 512, 1023])
def test_a_miscompare_writes_nothing_and_tells_where(at: int) -> None:
    # SBC-4 5.3: MISCOMPARE, INFORMATION is the offset of the first differing byte of data-out
    expected = bytearray(BLOCK * 2)
    expected[at] ^= 0x01
    outcome = play(disk(), CAW.format(0, 2), (READ_2, BLOCK * 2), out=bytes(expected) + OTHER * 2)
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
    assert play(unit, ATOMIC.format(0, 0, 2), out=bytes(1024)).triple == "5/24/00"


def test_compare_and_write_out_of_range() -> None:
    assert play(disk(blocks=8), CAW.format(0, 1), out=bytes(1024)).triple == "5/21/00"


def test_a_failed_write_after_the_comparison() -> None:
    error = OSError(errno.EIO, "broken")
    outcome = play(disk(), CAW.format(0, 1), (READ_1, BLOCK), (Write, error), out=BLOCK + OTHER)
    assert outcome.error is error


def test_orwrite() -> None:
    # SBC-4 5.10: the blocks, bit by bit OR'ed with the data
    either = bytes(one | other for one, other in zip(BLOCK, OTHER, strict=True))
    steps = ((READ_1, BLOCK), (Write(8 * 512, bytes_of(either)), None))
    assert play(disk(), ORWRITE.format(0, 1), *steps, out=OTHER).status == 0


def test_orwrite_keeps_leading_zeroes() -> None:
    steps = ((READ_1, bytes(512)), (Write(8 * 512, bytes_of(bytes(511) + b"\x01")), None))
    assert play(disk(), ORWRITE.format(0, 1), *steps, out=bytes(511) + b"\x01").status == 0


def test_orwrite_edges() -> None:
    assert play(disk(), ORWRITE.format(0, 0)).status == 0
    assert play(disk(), ORWRITE.format(0x20, 1), out=BLOCK).triple == "5/24/00"  # ORPROTECT
    assert play(disk(), ORWRITE.format(0, 2), out=BLOCK).triple == "5/24/00"
    assert play(disk(blocks=8), ORWRITE.format(0, 1), out=BLOCK).triple == "5/21/00"
    steps = ((READ_1, BLOCK), (Write(8 * 512, bytes_of(BLOCK), fua=True), None))
    assert play(disk(), ORWRITE.format(0x08, 1), *steps, out=bytes(512)).status == 0


def test_write_atomic() -> None:
    step = (Write(8 * 512, bytes_of(OTHER)), None)
    assert play(disk(), ATOMIC.format(0, 0, 1), step, out=OTHER).status == 0
    step = (Write(8 * 512, bytes_of(OTHER), fua=True), None)
    assert play(disk(), ATOMIC.format(0x08, 0, 1), step, out=OTHER).status == 0


def test_write_atomic_is_offered_where_the_storage_can_keep_what_it_promises() -> None:
    """SBC-4 4.29: all of it or none of it is on the medium, also after a loss of power."""
    unit = disk(replace(EVERYTHING, atomic=False))
    assert play(unit, ATOMIC.format(0, 0, 1), out=OTHER).triple == "5/20/00"
    # SBC-4 table 243: MAXIMUM ATOMIC TRANSFER LENGTH in bytes 44 to 47 of VPD page B0
    assert play(unit, "12 01 b0 00ff 00", room=255).data[44:48] == bytes(4)
    assert any(play(disk(), "12 01 b0 00ff 00", room=255).data[44:48])


def test_write_atomic_edges() -> None:
    assert play(disk(), ATOMIC.format(0, 0, 0)).status == 0
    assert play(disk(), ATOMIC.format(0, 1, 1), out=BLOCK).triple == "5/24/00"  # ATOMIC BOUNDARY
    assert play(disk(), ATOMIC.format(0, 0, 2), out=BLOCK).triple == "5/24/00"
    unit = disk(limits=Limits(max_atomic=1))
    assert play(unit, ATOMIC.format(0, 0, 2), out=BLOCK * 2).triple == "5/24/00"


def test_write_protection() -> None:
    for cdb in (CAW.format(0, 1), ORWRITE.format(0, 1), ATOMIC.format(0, 0, 1)):
        assert play(disk(Capabilities(atomic=True)), cdb, out=BLOCK * 2).triple == "7/27/00"
