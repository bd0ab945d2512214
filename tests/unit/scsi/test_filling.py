from tcmu_runner.scsi import filling
from tcmu_runner.scsi.operations import Unmap, Write, WriteZeroes
from tcmu_runner.scsi.unit import Capabilities

from .play import disk

GIB = 1 << 30


def test_large_ranges_are_zeroed_piece_by_piece() -> None:
    unit = disk(blocks=1 << 40)
    found = list(filling.clear(unit, 512, 2 * GIB + 512, unmap=True))
    assert found == [
        WriteZeroes(512, GIB, unmap=True), WriteZeroes(512 + GIB, GIB, unmap=True),
        WriteZeroes(512 + 2 * GIB, 512, unmap=True),
    ]  # fmt: skip


def test_unmapping_zeroes_where_unmapped_blocks_read_as_zeroes() -> None:
    unit = disk(Capabilities(write=True, unmap=True, unmap_reads_zero=True), blocks=1 << 30)
    assert list(filling.clear(unit, 0, GIB + 512, unmap=True)) == [Unmap(0, GIB), Unmap(GIB, 512)]
    # but not where the space shall stay
    assert all(isinstance(each, Write) for each in filling.clear(unit, 0, 4096, unmap=False))


def test_repeating_ends_exactly() -> None:
    mebibyte = 1 << 20
    found = list(filling.repeat(0, mebibyte * 2 + 512, b"x" * 512, fua=False))
    assert [(each.offset, sum(map(len, each.data))) for each in found if isinstance(each, Write)] == [
        (0, mebibyte), (mebibyte, mebibyte), (2 * mebibyte, 512),
    ]  # fmt: skip
