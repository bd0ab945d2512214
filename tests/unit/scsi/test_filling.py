from tcmu_runner.scsi import filling
from tcmu_runner.scsi.operations import Flush, Unmap, Write, WriteZeroes
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.play import disk

STRIDE = 64 << 20  # bytes; a longer piece would hold others up


def test_large_ranges_are_zeroed_piece_by_piece() -> None:
    unit = disk(blocks=1 << 40)
    found = list(filling.clear(unit, 512, 2 * STRIDE + 512, unmap=True))
    assert found == [
        WriteZeroes(512, STRIDE, unmap=True), WriteZeroes(512 + STRIDE, STRIDE, unmap=True),
        WriteZeroes(512 + 2 * STRIDE, 512, unmap=True),
    ]  # fmt: skip


def test_unmapping_zeroes_where_unmapped_blocks_read_as_zeroes() -> None:
    unit = disk(Capabilities(write=True, unmap=True, unmap_reads_zero=True), blocks=1 << 30)
    assert list(filling.clear(unit, 0, STRIDE + 512, unmap=True)) == [Unmap(0, STRIDE), Unmap(STRIDE, 512)]
    # but not where the space shall stay
    assert all(isinstance(each, Write) for each in filling.clear(unit, 0, 4096, unmap=False))


def test_without_a_write_cache_zeroes_outlast_a_loss_of_power() -> None:
    """SBC-4 6.5.6: with WCE 0 a command ends when its data is on the medium."""
    unit = disk(Capabilities(write=True, flush=True, unmap=True, unmap_reads_zero=True))
    assert list(filling.clear(unit, 0, 4096, unmap=True)) == [Unmap(0, 4096)]
    unit.mode.write_cache = False
    assert list(filling.clear(unit, 0, 4096, unmap=True)) == [Unmap(0, 4096), Flush()]
    unit = disk()
    unit.mode.write_cache = False
    assert list(filling.clear(unit, 0, 4096, unmap=True)) == [WriteZeroes(0, 4096, unmap=True, fua=True)]


def test_repeating_ends_exactly() -> None:
    mebibyte = 1 << 20
    found = list(filling.repeat(0, mebibyte * 2 + 512, b"x" * 512, fua=False))
    assert [(each.offset, sum(map(len, each.data))) for each in found if isinstance(each, Write)] == [
        (0, mebibyte), (mebibyte, mebibyte), (2 * mebibyte, 512),
    ]  # fmt: skip
