import errno
from dataclasses import replace

import pytest

from tcmu_runner.scsi.commands import provisioning
from tcmu_runner.scsi.operations import Extent, Extents, Flush, Unmap, Write, WriteSame, WriteZeroes
from tcmu_runner.scsi.unit import Capabilities, Limits, Unit
from tcmu_runner.testing.play import EVERYTHING, Ending, Step, bytes_of, disk, play

BLOCK = bytes(range(256)) * 2
WRITE_SAME = [("41 {:02x} 00000008 00 {:04x} 00", "10"), ("93 {:02x} 0000000000000008 {:08x} 00 00", "16")]


def unmap_list(*ranges: tuple[int, int]) -> bytes:
    """SBC-4 5.35: the parameter list."""
    body = b"".join(lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4) for lba, count in ranges)
    return (len(body) + 6).to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes(4) + body


def unmap(unit: Unit, parameters: bytes, *script: Step) -> Ending:
    cdb = bytes.fromhex("42 00 00000000 00") + len(parameters).to_bytes(2, "big") + b"\0"
    return play(unit, cdb, *script, out=parameters)


def test_unmap() -> None:
    outcome = unmap(
        disk(), unmap_list((8, 4), (100, 1)), (Unmap(8 * 512, 4 * 512), None), (Unmap(100 * 512, 512), None)
    )
    assert outcome.status == 0


def test_without_a_write_cache_what_is_unmapped_stays_so() -> None:
    """SBC-4 6.5.6: with WCE 0 nothing that a loss of power would undo is GOOD."""
    unit = disk()
    unit.mode.write_cache = False
    assert unmap(unit, unmap_list((8, 4)), (Unmap(8 * 512, 4 * 512), None), (Flush(), None)).status == 0


def test_a_failed_unmap_is_not_good() -> None:
    """prior-art 2.1 #1: an unmap error was stored only when one was stored already."""
    error = OSError(errno.EIO, "broken")
    assert unmap(disk(), unmap_list((8, 4)), (Unmap, error)).error is error
    assert unmap(disk(), unmap_list((8, 4), (16, 4)), (Unmap, None), (Unmap, error)).error is error


def test_an_unmap_out_of_range_unmaps_nothing() -> None:
    assert unmap(disk(), unmap_list((8, 4), (1023, 2))).triple == "5/21/00"


def test_unmap_of_nothing() -> None:
    # SBC-4 5.35: neither an empty list nor a descriptor of zero blocks is an error
    assert play(disk(), "42 00 00000000 00 0000 00").status == 0
    assert unmap(disk(), unmap_list()).status == 0
    assert unmap(disk(), unmap_list((8, 0))).status == 0


@pytest.mark.parametrize("size", [1, 7])
def test_an_unmap_list_without_header(size: int) -> None:
    # SBC-4 5.35: a length below eight is 5/1A/00 PARAMETER LIST LENGTH ERROR
    assert unmap(disk(), bytes(size)).triple == "5/1A/00"


def test_an_unmap_list_shorter_than_the_cdb_says() -> None:
    assert play(disk(), "42 00 00000000 00 0018 00", out=unmap_list()).triple == "5/1A/00"


def test_unmap_within_the_limits() -> None:
    # SBC-4 5.35: above MAXIMUM UNMAP LBA COUNT or DESCRIPTOR COUNT: 5/26/00
    unit = disk(limits=Limits(max_unmap=8, max_unmap_descriptors=2))
    assert unmap(unit, unmap_list((0, 9))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 4), (8, 5))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 1), (8, 1), (16, 1))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 8)), (Unmap(0, 8 * 512), None)).status == 0


def test_anchoring_is_refused() -> None:
    # SBC-4 5.35: ANCHOR where ANC_SUP is not set: 5/24/00
    assert play(disk(), "42 01 00000000 00 0000 00").triple == "5/24/00"


def test_without_the_capability_there_is_no_unmap() -> None:
    assert play(disk(Capabilities(write=True)), "42 00 00000000 00 0000 00").triple == "5/20/00"


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_repeats_the_block(layout: str, _size: str) -> None:
    outcome = play(disk(), layout.format(0, 4), (Write(8 * 512, bytes_of(BLOCK * 4)), None), out=BLOCK)
    assert outcome.status == 0


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_by_the_storage(layout: str, _size: str) -> None:
    unit = disk(replace(EVERYTHING, write_same=True))
    step = (WriteSame(8 * 512, 4 * 512, BLOCK), None)
    assert play(unit, layout.format(0, 4), step, out=BLOCK).status == 0


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_of_zeroes(layout: str, _size: str) -> None:
    step = (WriteZeroes(8 * 512, 4 * 512), None)
    assert play(disk(), layout.format(0, 4), step, out=bytes(512)).status == 0


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_with_unmap(layout: str, _size: str) -> None:
    step = (WriteZeroes(8 * 512, 4 * 512, unmap=True), None)
    assert play(disk(), layout.format(8, 4), step, out=bytes(512)).status == 0


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
@pytest.mark.parametrize("alignment", [0, 3])
def test_write_same_with_unmap_survives_any_alignment(layout: str, _size: str, alignment: int) -> None:
    """prior-art 2.1 #2 and #3: an unmap alignment of 0 divided by zero, and gave a wrong first split."""
    unit = disk(limits=Limits(unmap_alignment=alignment, unmap_granularity=16))
    step = (WriteZeroes(8 * 512, 100 * 512, unmap=True), None)
    assert play(unit, layout.format(8, 100), step, out=bytes(512)).status == 0


def test_write_same_with_unmap_by_a_storage_that_cannot_write_zeroes() -> None:
    # SBC-4 5.52: with LBPRZ the unmapped blocks read as the zeroes the initiator sent
    unit = disk(Capabilities(write=True, unmap=True, unmap_reads_zero=True))
    step = (Unmap(8 * 512, 4 * 512), None)
    assert play(unit, "41 08 00000008 00 0004 00", step, out=bytes(512)).status == 0


def test_write_same_with_unmap_writes_where_unmapped_blocks_keep_their_content() -> None:
    unit = disk(Capabilities(write=True, unmap=True))
    step = (Write(8 * 512, bytes_of(bytes(4 * 512)), fua=True), None)
    assert play(unit, "41 08 00000008 00 0004 00", step, out=bytes(512)).status == 0


def test_write_same_with_unmap_of_other_bytes_writes_them() -> None:
    # SBC-4 5.52: unmapping is only allowed where reading gives back the same bytes
    step = (Write(8 * 512, bytes_of(BLOCK * 4)), None)
    assert play(disk(), "41 08 00000008 00 0004 00", step, out=BLOCK).status == 0


def test_write_same_with_unmap_needs_the_capability() -> None:
    assert (
        play(disk(Capabilities(write=True)), "41 08 00000008 00 0004 00", out=bytes(512)).triple == "5/24/00"
    )


def test_write_same_without_data() -> None:
    # SBC-4 5.53: NDOB: no data-out, the blocks are zeroes
    step = (WriteZeroes(8 * 512, 4 * 512), None)
    assert play(disk(), "93 01 0000000000000008 00000004 00 00", step).status == 0


def test_write_same_is_cut_into_chunks() -> None:
    unit = disk(Capabilities(write=True), blocks=8192)
    megabyte = (1 << 20) // 512
    steps = [
        (Write(0, bytes_of(BLOCK * megabyte), fua=True), None),
        (Write(1 << 20, bytes_of(BLOCK), fua=True), None),
    ]
    cdb = bytes.fromhex("41 00 00000000 00") + (megabyte + 1).to_bytes(2, "big") + b"\0"
    assert play(unit, cdb, *steps, out=BLOCK).status == 0


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_of_no_blocks(layout: str, _size: str) -> None:
    # SBC-4 6.6.4: WSNZ: a NUMBER OF LOGICAL BLOCKS of zero is 5/24/00
    assert play(disk(), layout.format(0, 0), out=BLOCK).triple == "5/24/00"


def test_write_same_to_the_end() -> None:
    # SBC-4 5.52: NUMBER OF LOGICAL BLOCKS 0: up to the last one, as far as MAXIMUM WRITE SAME LENGTH allows
    unit = disk(limits=Limits(write_same_to_end=True))
    for cdb in ("41 00 00000008 00 0000 00", "93 00 0000000000000008 00000000 00 00"):
        assert play(unit, cdb, (WriteZeroes(8 * 512, unit.size - 8 * 512), None), out=bytes(512)).status == 0
    short = disk(limits=Limits(write_same_to_end=True, max_write_same=8))
    assert play(short, "41 00 00000008 00 0000 00", out=bytes(512)).triple == "5/24/00"


def test_write_same_of_too_many_blocks() -> None:
    # SBC-4 5.52: above MAXIMUM WRITE SAME LENGTH: 5/24/00
    unit = disk(limits=Limits(max_write_same=8))
    assert play(unit, "41 00 00000000 00 0009 00", out=BLOCK).triple == "5/24/00"
    assert play(unit, "41 00 00000000 00 0008 00", (Write, None), out=BLOCK).status == 0


def test_write_same_out_of_range() -> None:
    assert play(disk(), "41 00 000003ff 00 0002 00", out=BLOCK).triple == "5/21/00"


def test_write_same_without_its_block() -> None:
    for size in (0, 511, 513, 1024):
        assert play(disk(), "41 00 00000000 00 0001 00", out=bytes(size)).triple == "5/24/00"


def test_a_failed_write_same_is_not_good() -> None:
    error = OSError(errno.ENOSPC, "full")
    assert play(disk(), "41 00 00000000 00 0001 00", (Write, error), out=BLOCK).error is error
    assert (
        play(disk(EVERYTHING), "41 08 00000000 00 0001 00", (WriteZeroes, error), out=bytes(512)).error
        is error
    )


def lba_status(unit: Unit, lba: int, *script: Step, room: int = 256) -> Ending:
    cdb = bytes((0x9E, 0x12)) + lba.to_bytes(8, "big") + room.to_bytes(4, "big") + b"\0\0"
    return play(unit, cdb, *script, room=room)


def extents(unit: Unit, *runs: tuple[int, int, bool]) -> list[Extent]:
    return [Extent(lba * unit.block_size, count * unit.block_size, mapped) for lba, count, mapped in runs]


def test_get_lba_status() -> None:
    # SBC-4 tables 60 and 62: length, completion condition 011b (the medium ends) in bits 3 to 1 of byte 7;
    # LBA, number of blocks, status 0h mapped, 1h deallocated
    unit = disk()
    step = (Extents(0, unit.size), extents(unit, (0, 8, True), (8, 1000, False), (1008, 16, True)))
    assert lba_status(unit, 0, step).data.hex(" ", 4) == (
        "00000034 00000006 "
        "00000000 00000000 00000008 00000000 "
        "00000000 00000008 000003e8 01000000 "
        "00000000 000003f0 00000010 00000000"
    )


def test_get_lba_status_begins_where_it_is_asked_to() -> None:
    unit = disk()
    step = (Extents(100 * 512, unit.size - 100 * 512), extents(unit, (100, 924, False)))
    assert lba_status(unit, 100, step).data[8:].hex(" ", 4) == "00000000 00000064 0000039c 01000000"


@pytest.mark.parametrize("room", [24, 40])
def test_get_lba_status_with_little_room(room: int) -> None:
    # SBC-4 table 61: 001b: the allocation length is used up
    unit = disk()
    step = (Extents, extents(unit, *((lba, 1, bool(lba % 2)) for lba in range(1024))))
    data = lba_status(unit, 0, step, room=room).data
    assert len(data) == room
    assert int.from_bytes(data[:4], "big") == room - 4
    assert data[7] == 0b001 << 1


def test_get_lba_status_tells_of_one_descriptor_at_least() -> None:
    unit = disk()
    data = lba_status(unit, 0, (Extents, extents(unit, (0, 1024, True))), room=8).data
    assert data.hex(" ", 4) == "00000014 00000006"


def test_neighbours_of_one_state_are_joined() -> None:
    unit = disk()
    step = (Extents, extents(unit, (0, 8, False), (8, 8, False), (16, 1008, True)))
    assert lba_status(unit, 0, step).data[8:24].hex(" ", 4) == "00000000 00000000 00000010 01000000"


def test_a_block_is_deallocated_only_as_a_whole() -> None:
    unit = disk(block_size=4096)
    holes = [Extent(512, 4096 * 3, mapped=False), Extent(4096 * 4, 1024, mapped=False)]
    data = lba_status(unit, 0, (Extents, holes)).data
    assert data[8:].hex(" ", 4) == (
        "00000000 00000000 00000001 00000000 "
        "00000000 00000001 00000002 01000000 "
        "00000000 00000003 000003fd 00000000"
    )


def test_what_the_storage_does_not_mention_is_mapped() -> None:
    unit = disk()
    assert lba_status(unit, 0, (Extents, [])).data[8:].hex(" ", 4) == "00000000 00000000 00000400 00000000"


def test_extents_beyond_what_was_asked_for() -> None:
    unit = disk()
    found = extents(unit, (0, 200, False), (150, 100, False), (1000, 5000, False))
    data = lba_status(unit, 100, (Extents, found)).data
    assert data[8:].hex(" ", 4) == (
        "00000000 00000064 00000096 01000000 "
        "00000000 000000fa 000002ee 00000000 "
        "00000000 000003e8 00000018 01000000"
    )


def test_a_large_disk_is_asked_in_windows() -> None:
    unit = disk(blocks=1 << 22)
    steps = [(Extents(at << 30, 1 << 30), [Extent(at << 30, 1 << 30, mapped=False)]) for at in (0, 1)]
    assert lba_status(unit, 0, *steps).data[8:].hex(" ", 4) == "00000000 00000000 00400000 01000000"


def test_a_huge_disk_is_not_asked_for_ever() -> None:
    # SBC-4 table 61: 000b: neither reason; and the count of a descriptor has 32 bits
    unit = disk(blocks=1 << 50)
    steps: list[Step] = [(Extents, [Extent(at << 30, 1 << 30, mapped=False)]) for at in range(256)]
    data = lba_status(unit, 0, *steps).data
    assert data[7] == 0
    assert data[8:].hex(" ", 4) == "00000000 00000000 20000000 01000000"


def test_counts_beyond_32_bits_take_another_descriptor() -> None:
    runs: list[provisioning.Run] = []
    for lba in range(0, 3 << 31, 1 << 31):
        provisioning._join(runs, provisioning.Run(lba, 1 << 31, mapped=False))
    assert [run.blocks for run in runs] == [1 << 31, 1 << 31, 1 << 31]


def test_get_lba_status_edges() -> None:
    assert lba_status(disk(), 1024).triple == "5/21/00"
    assert play(disk(), "9e 12 0000000000000000 00000020 01 00").triple == "5/24/00"  # REPORT TYPE
    assert lba_status(disk(Capabilities(write=True)), 0).triple == "5/24/00"


STRIDE = 64 << 20  # bytes; a longer piece would hold others up


def test_large_ranges_are_zeroed_piece_by_piece() -> None:
    unit = disk(blocks=1 << 40)
    found = list(provisioning.clear(unit, 512, 2 * STRIDE + 512, unmap=True))
    assert found == [
        WriteZeroes(512, STRIDE, unmap=True), WriteZeroes(512 + STRIDE, STRIDE, unmap=True),
        WriteZeroes(512 + 2 * STRIDE, 512, unmap=True),
    ]  # fmt: skip


def test_unmapping_zeroes_where_unmapped_blocks_read_as_zeroes() -> None:
    unit = disk(Capabilities(write=True, unmap=True, unmap_reads_zero=True), blocks=1 << 30)
    assert list(provisioning.clear(unit, 0, STRIDE + 512, unmap=True)) == [
        Unmap(0, STRIDE),
        Unmap(STRIDE, 512),
    ]
    # but not where the space shall stay
    assert all(isinstance(each, Write) for each in provisioning.clear(unit, 0, 4096, unmap=False))


def test_without_a_write_cache_zeroes_outlast_a_loss_of_power() -> None:
    """SBC-4 6.5.6: with WCE 0 a command ends when its data is on the medium."""
    unit = disk(Capabilities(write=True, flush=True, unmap=True, unmap_reads_zero=True))
    assert list(provisioning.clear(unit, 0, 4096, unmap=True)) == [Unmap(0, 4096)]
    unit.mode.write_cache = False
    assert list(provisioning.clear(unit, 0, 4096, unmap=True)) == [Unmap(0, 4096), Flush()]
    unit = disk()
    unit.mode.write_cache = False
    assert list(provisioning.clear(unit, 0, 4096, unmap=True)) == [WriteZeroes(0, 4096, unmap=True, fua=True)]


def test_repeating_ends_exactly() -> None:
    mebibyte = 1 << 20
    found = list(provisioning.repeat(0, mebibyte * 2 + 512, b"x" * 512, fua=False))
    assert [(each.offset, sum(map(len, each.data))) for each in found if isinstance(each, Write)] == [
        (0, mebibyte), (mebibyte, mebibyte), (2 * mebibyte, 512),
    ]  # fmt: skip
