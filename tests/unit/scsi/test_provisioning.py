import errno

import pytest

from tcmu_runner.scsi.operations import Unmap, Write, WriteZeroes
from tcmu_runner.scsi.unit import Capabilities, Limits, Unit

from .play import EVERYTHING, Outcome, Step, bytes_of, disk, play

BLOCK = bytes(range(256)) * 2
WRITE_SAME = [("41 {:02x} 00000008 00 {:04x} 00", "10"), ("93 {:02x} 0000000000000008 {:08x} 00 00", "16")]


def unmap_list(*ranges: tuple[int, int]) -> bytes:
    """SBC-4 5.39.2 table 128 and 129."""
    body = b"".join(lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4) for lba, count in ranges)
    return (len(body) + 6).to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes(4) + body


def unmap(unit: Unit, parameters: bytes, *script: Step) -> Outcome:
    cdb = bytes.fromhex("42 00 00000000 00") + len(parameters).to_bytes(2, "big") + b"\0"
    return play(unit, cdb, *script, out=parameters)


def test_unmap() -> None:
    outcome = unmap(
        disk(), unmap_list((8, 4), (100, 1)), (Unmap(8 * 512, 4 * 512), None), (Unmap(100 * 512, 512), None)
    )
    assert outcome.status == 0


def test_a_failed_unmap_is_not_good() -> None:
    """prior-art 2.1 #1: an unmap error was stored only when one was stored already."""
    error = OSError(errno.EIO, "broken")
    assert unmap(disk(), unmap_list((8, 4)), (Unmap, error)).error is error
    assert unmap(disk(), unmap_list((8, 4), (16, 4)), (Unmap, None), (Unmap, error)).error is error


def test_an_unmap_out_of_range_unmaps_nothing() -> None:
    assert unmap(disk(), unmap_list((8, 4), (1023, 2))).triple == "5/21/00"


def test_unmap_of_nothing() -> None:
    # SBC-4 5.39: neither an empty list nor a descriptor of zero blocks is an error
    assert play(disk(), "42 00 00000000 00 0000 00").status == 0
    assert unmap(disk(), unmap_list()).status == 0
    assert unmap(disk(), unmap_list((8, 0))).status == 0


@pytest.mark.parametrize("size", [1, 7])
def test_an_unmap_list_without_header(size: int) -> None:
    # SBC-4 5.39.1: a length below eight is 5/1A/00 PARAMETER LIST LENGTH ERROR
    assert unmap(disk(), bytes(size)).triple == "5/1A/00"


def test_an_unmap_list_shorter_than_the_cdb_says() -> None:
    assert play(disk(), "42 00 00000000 00 0018 00", out=unmap_list()).triple == "5/1A/00"


def test_unmap_within_the_limits() -> None:
    # SBC-4 5.39.1: above MAXIMUM UNMAP LBA COUNT or DESCRIPTOR COUNT: 5/26/00
    unit = disk(limits=Limits(max_unmap=8, max_unmap_descriptors=2))
    assert unmap(unit, unmap_list((0, 9))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 4), (8, 5))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 1), (8, 1), (16, 1))).triple == "5/26/00"
    assert unmap(unit, unmap_list((0, 8)), (Unmap(0, 8 * 512), None)).status == 0


def test_anchoring_is_refused() -> None:
    # SBC-4 5.39: ANCHOR where ANC_SUP is not set: 5/24/00
    assert play(disk(), "42 01 00000000 00 0000 00").triple == "5/24/00"


def test_without_the_capability_there_is_no_unmap() -> None:
    assert play(disk(Capabilities(write=True)), "42 00 00000000 00 0000 00").triple == "5/20/00"


@pytest.mark.parametrize(("layout", "_size"), WRITE_SAME)
def test_write_same_repeats_the_block(layout: str, _size: str) -> None:
    outcome = play(disk(), layout.format(0, 4), (Write(8 * 512, bytes_of(BLOCK * 4)), None), out=BLOCK)
    assert outcome.status == 0


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
