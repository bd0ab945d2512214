"""Checks of what a storage does as one operation: compare_and_write, write_same."""

from __future__ import annotations

from tcmu_runner.testing.conformance.bench import Bench, ring_memory
from tcmu_runner.testing.conformance.violation import BreachError


def compare_and_write(bench: Bench) -> None:
    """it writes where all bytes are as expected, else nothing, and says where the first other one is"""
    bench.need("compare_and_write", "write")
    region = bench.region(8)
    offset, length = region.part(3, 2)
    before = bytes(region.content[offset - region.offset :][:length])
    data = bench.random.randbytes(length)
    for at in (0, length // 2 + 1, length - 1):
        other = before[:at] + bytes((before[at] ^ 1,)) + before[at + 1 :]
        _answers(bench, other, data, offset, at)
        region.verify("after compare_and_write of other bytes", "write nothing where one byte differs")
    _answers(bench, before, data, offset, None)
    region.holds(offset, data)
    region.verify("after compare_and_write", "write the data where the bytes are as expected")


def _answers(bench: Bench, expected: bytes, data: bytes, offset: int, answer: int | None) -> None:
    lengths = [len(data) - 7, 7]
    one, other = ring_memory(expected, lengths), ring_memory(data, lengths)
    told = bench.perform(
        "compare_and_write", lambda handler: handler.compare_and_write(list(one), list(other), offset)
    )
    if told != answer and not bench.setup.forgets:
        raise BreachError(
            f"compare_and_write returned {told!r} and not {answer!r}",
            "return the offset in `expected` of the first byte that differs, None after writing",
        )


def write_same(bench: Bench) -> None:
    """the whole range holds the block again and again, and no other byte has changed"""
    bench.need("write_same", "write")
    region = bench.region(32)
    for first, count in ((0, 1), (5, 20), (31, 1)):
        offset, length = region.part(first, count)
        block = bench.random.randbytes(bench.block_size)
        _write_same(bench, offset, length, block)
        region.holds(offset, block * count)
        region.verify(f"after write_same({offset}, {length})", "repeat the block over the range")


def _write_same(bench: Bench, offset: int, length: int, block: bytes) -> None:
    bench.perform("write_same", lambda handler: handler.write_same(offset, length, block))
