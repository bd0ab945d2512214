import errno
from dataclasses import replace

import pytest

from tcmu_runner.scsi.operations import Flush, Read, Write
from tcmu_runner.scsi.unit import Capabilities, Limits, Unit
from tcmu_runner.testing.play import EVERYTHING, STALE, bytes_of, disk, play, space

BLOCK, OTHER = bytes(range(256)) * 2, bytes(range(255, -1, -1)) * 2
ORWRITE = "8b {:02x} 0000000000000008 {:08x} 00 00"  # SBC-4 table 69
ATOMIC = "9c {:02x} 0000000000000008 {:04x} {:04x} 00 00"  # SBC-4 table 150
READ_1 = Read(8 * 512, space(512))
# LBA 8, one block, in each layout (SBC-4 5.16 to 5.19 and 5.40 to 5.43)
READS = [
    "08 00 0008 01 00", "28 00 00000008 00 0001 00", "a8 00 00000008 00000001 00 00",
    "88 00 0000000000000008 00000001 00 00",
]  # fmt: skip
WRITES = [
    "0a 00 0008 01 00", "2a 00 00000008 00 0001 00", "aa 00 00000008 00000001 00 00",
    "8a 00 0000000000000008 00000001 00 00",
]  # fmt: skip
ZERO_BLOCKS = [
    "28 00 {:08x} 00 0000 00", "a8 00 {:08x} 00000000 00 00", "88 00 {:016x} 00000000 00 00",
    "2a 00 {:08x} 00 0000 00", "aa 00 {:08x} 00000000 00 00", "8a 00 {:016x} 00000000 00 00",
]  # fmt: skip


@pytest.mark.parametrize("cdb", READS)
def test_read(cdb: str) -> None:
    outcome = play(disk(), cdb, (Read(8 * 512, space(512)), BLOCK), room=512)
    assert outcome.data == BLOCK


@pytest.mark.parametrize("cdb", WRITES)
def test_write(cdb: str) -> None:
    assert play(disk(), cdb, (Write(8 * 512, bytes_of(BLOCK)), None), out=BLOCK).status == 0


def test_the_whole_lba_is_used() -> None:
    # READ(6): 21 bits; READ(16): 64 bits
    unit = disk(blocks=1 << 40)
    step = (Read(0x1FFFFF * 512, space(512)), BLOCK)
    assert play(unit, "08 1f ffff 01 00", step, room=512).data == BLOCK
    step = (Read(0xFEDCBA9876 * 512, space(512)), BLOCK)
    assert play(unit, "88 00 000000fedcba9876 00000001 00 00", step, room=512).data == BLOCK


def test_read_6_with_length_zero_is_256_blocks() -> None:
    """prior-art 2.1 #7 (SBC-3 5.9: a TRANSFER LENGTH of zero in READ(6) means 256)."""
    step = (Read(0, space(256 * 512)), BLOCK * 256)
    assert play(disk(), "08 00 0000 00 00", step, room=256 * 512).data == BLOCK * 256


def test_write_6_with_length_zero_is_256_blocks() -> None:
    """prior-art 2.1 #7."""
    data = BLOCK * 256
    step = (Write(0, bytes_of(data)), None)
    assert play(disk(), "0a 00 0000 00 00", step, out=data).status == 0


@pytest.mark.parametrize("cdb", ZERO_BLOCKS)
def test_no_blocks_is_no_error_up_to_the_end(cdb: str) -> None:
    # SBC-4 5.16: TRANSFER LENGTH zero transfers nothing and is not an error; 4.5.? the LBA is still checked
    assert play(disk(blocks=64), cdb.format(0)).status == 0
    assert play(disk(blocks=64), cdb.format(63)).status == 0
    assert play(disk(blocks=64), cdb.format(64)).status == 0
    assert play(disk(blocks=64), cdb.format(65)).triple == "5/21/00"


@pytest.mark.parametrize(("lba", "count"), [(64, 1), (63, 2), (0, 65), (0xFFFFFFFF, 1)])
def test_out_of_range(lba: int, count: int) -> None:
    # SBC-4 5.16: 5/21/00 LOGICAL BLOCK ADDRESS OUT OF RANGE, INFORMATION shows the first bad LBA
    for opcode in (0x28, 0x2A):
        cdb = bytes((opcode, 0)) + lba.to_bytes(4, "big") + b"\0" + count.to_bytes(2, "big") + b"\0"
        outcome = play(disk(blocks=64), cdb, out=bytes(count * 512) if opcode == 0x2A else b"")
        assert outcome.triple == "5/21/00"
        assert outcome.sense is not None
        assert outcome.sense.information == max(lba, 64)


def test_out_of_range_does_not_wrap_around() -> None:
    cdb = "88 00 ffffffffffffffff 00000001 00 00"
    assert play(disk(), cdb, room=512).triple == "5/21/00"


@pytest.mark.parametrize("protect", [1, 2, 3, 4, 5, 6, 7])
def test_protection_information_is_refused(protect: int) -> None:
    # SBC-4 table 69 and 137: RDPROTECT and WRPROTECT other than 0 on a medium without protection: 5/24/00
    for opcode, size in ((0x28, 10), (0x2A, 10), (0x88, 16), (0x8A, 16), (0xA8, 12), (0xAA, 12)):
        cdb = bytes((opcode, protect << 5)) + bytes(size - 2)
        outcome = play(disk(), cdb, room=512)
        assert outcome.triple == "5/24/00"
        assert outcome.sense is not None
        assert outcome.sense.specific is not None
        assert outcome.sense.specific[2] == 1


def test_a_buffer_longer_than_the_cdb_says_keeps_its_old_bytes_to_itself() -> None:
    # tcmu-abi 8.3: the rest is not returned
    outcome = play(disk(), READS[1], (Read(8 * 512, space(512)), BLOCK), room=2048)
    assert outcome.data == BLOCK
    assert outcome.command is not None
    assert outcome.command.returned == 512


def test_a_buffer_shorter_than_the_cdb_says_gets_what_fits() -> None:
    outcome = play(
        disk(), "28 00 00000008 00 0002 00", (Read(8 * 512, space(512)), BLOCK), (Read, BLOCK), room=700
    )
    assert outcome.data == BLOCK + BLOCK[:188]


def test_a_read_without_buffer() -> None:
    assert play(disk(), READS[1]).data == b""


@pytest.mark.parametrize("pieces", [(512, 512), (100, 412, 12), (1, 1, 1), (1023,)])
def test_read_into_pieces(pieces: tuple[int, ...]) -> None:
    step = (Read(0, space(1024)), BLOCK * 2)
    outcome = play(disk(), "28 00 00000000 00 0002 00", step, room=1024, pieces=pieces)
    assert outcome.data == BLOCK * 2


@pytest.mark.parametrize("pieces", [(512, 512), (100, 412, 12), (1, 1, 1)])
def test_write_from_pieces(pieces: tuple[int, ...]) -> None:
    step = (Write(0, bytes_of(BLOCK * 2)), None)
    assert play(disk(), "2a 00 00000000 00 0002 00", step, out=BLOCK * 2, pieces=pieces).status == 0


@pytest.mark.parametrize("size", [0, 1, 511])
def test_a_write_with_too_little_data_writes_nothing(size: int) -> None:
    # tcmu-abi 8.3: the length of the data comes from the fabric
    assert play(disk(), WRITES[1], out=bytes(size)).triple == "5/24/00"


def test_a_write_with_too_much_data_takes_what_the_cdb_says() -> None:
    assert play(disk(), WRITES[1], (Write(8 * 512, bytes_of(BLOCK)), None), out=BLOCK * 2).status == 0


def test_force_unit_access_on_write() -> None:
    # SBC-4 table 136: FUA (bit 3): the blocks are on the medium before the command ends
    step = (Write(8 * 512, bytes_of(BLOCK), fua=True), None)
    assert play(disk(), "2a 08 00000008 00 0001 00", step, out=BLOCK).status == 0


def test_force_unit_access_on_read_empties_the_cache_first() -> None:
    # SBC-4 table 69: with FUA a read comes from the medium, so a cached write goes there first
    steps = ((Flush, None), (Read(8 * 512, space(512)), BLOCK))
    assert play(disk(), "28 08 00000008 00 0001 00", *steps, room=512).data == BLOCK


def test_a_storage_without_cache_writes_through() -> None:
    unit = disk(Capabilities(write=True))
    assert play(unit, WRITES[1], (Write(8 * 512, bytes_of(BLOCK), fua=True), None), out=BLOCK).status == 0
    assert play(unit, "28 08 00000008 00 0001 00", (Read, BLOCK), room=512).data == BLOCK


def test_a_transfer_above_the_limit_is_refused() -> None:
    # SBC-4 6.6.4: MAXIMUM TRANSFER LENGTH: 5/24/00
    unit = disk(limits=Limits(max_transfer=8))
    assert play(unit, "28 00 00000000 00 0009 00", room=9 * 512).triple == "5/24/00"
    assert play(unit, "2a 00 00000000 00 0009 00", out=bytes(9 * 512)).triple == "5/24/00"
    step = (Read(0, space(8 * 512)), BLOCK * 8)
    assert play(unit, "28 00 00000000 00 0008 00", step, room=8 * 512).status == 0


def test_an_error_of_the_storage_reaches_the_engine() -> None:
    error = OSError(errno.EIO, "broken")
    assert play(disk(), READS[1], (Read, error), room=512).error is error
    assert play(disk(), WRITES[1], (Write, error), out=BLOCK).error is error


@pytest.mark.parametrize(
    "cdb", ["35 00 00000000 00 0000 00", "35 02 00000008 00 0010 00", "91 00 0000000000000000 00000000 00 00"]
)
def test_synchronize_cache(cdb: str) -> None:
    # SBC-4 5.33: NUMBER OF BLOCKS zero means to the end
    assert play(disk(), cdb, (Flush, None)).status == 0
    assert play(disk(Capabilities(write=True)), cdb).status == 0


def test_synchronize_cache_out_of_range() -> None:
    assert play(disk(blocks=64), "35 00 00000040 00 0001 00").triple == "5/21/00"


def test_synchronize_cache_reports_the_storage_s_error() -> None:
    error = OSError(errno.EIO, "broken")
    assert play(disk(), "35 00 00000000 00 0000 00", (Flush, error)).error is error


def test_stale_is_what_the_buffers_hold_before() -> None:
    assert STALE not in play(disk(), "9e 10 0000000000000000 00000020 00 00", room=64).data


# an initiator that sends less than its CDB says, over a transport that tells it so (RFC 7143 11.4.5.1)


def telling() -> Unit:
    unit = disk()
    unit.tells_residuals = True
    return unit


def test_a_short_write_takes_what_was_sent() -> None:
    step = (Write(8 * 512, bytes_of(BLOCK)), None)
    assert play(telling(), "2a 00 00000008 00 0002 00", step, out=BLOCK).status == 0


def test_a_write_of_part_of_a_block_keeps_the_rest_of_it() -> None:
    steps = (
        (Write(8 * 512, bytes_of(b"\xaa" * 512), fua=True), None),
        (Read(9 * 512, space(512)), BLOCK),
        (Write(9 * 512, bytes_of(b"\xaa" * 88 + BLOCK[88:]), fua=True), None),
    )
    assert play(telling(), "2a 08 00000008 00 0002 00", *steps, out=b"\xaa" * 600).status == 0


def test_a_write_without_any_data() -> None:
    assert play(telling(), WRITES[1]).status == 0


def test_data_for_no_blocks_is_not_written() -> None:
    assert play(disk(), "2a 00 00000008 00 0000 00", out=BLOCK).status == 0


# PRE-FETCH (SBC-4 5.13)


@pytest.mark.parametrize(
    "cdb", ["34 00 00000008 00 0002 00", "34 02 00000008 03 0002 00", "90 00 0000000000000008 00000002 00 00"]
)
def test_prefetch_reads(cdb: str) -> None:
    assert play(disk(), cdb, (Read(8 * 512, space(1024)), BLOCK * 2)).status == 0


def test_prefetch_to_the_end() -> None:
    # PREFETCH LENGTH zero: to the last block
    assert (
        play(disk(blocks=16), "34 00 00000008 00 0000 00", (Read(8 * 512, space(4096)), BLOCK * 8)).status
        == 0
    )
    assert play(disk(blocks=16), "34 00 00000010 00 0000 00").status == 0
    assert play(disk(blocks=16), "34 00 00000011 00 0000 00").triple == "5/21/00"


def test_prefetch_of_much_reads_some() -> None:
    unit = disk(blocks=1 << 20)
    steps = [(Read(at << 20, space(1 << 20)), bytes(1 << 20)) for at in range(8)]
    assert play(unit, "90 00 0000000000000000 00100000 00 00", *steps).status == 0


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


def test_no_atomic_write_is_above_the_limit_of_all() -> None:
    unit = disk(limits=Limits(max_transfer=1))
    assert play(unit, ATOMIC.format(0, 0, 2), out=bytes(1024)).triple == "5/24/00"


def test_orwrite_and_write_atomic_on_a_protected_unit() -> None:
    for cdb in (ORWRITE.format(0, 1), ATOMIC.format(0, 0, 1)):
        assert play(disk(Capabilities(atomic=True)), cdb, out=BLOCK * 2).triple == "7/27/00"
