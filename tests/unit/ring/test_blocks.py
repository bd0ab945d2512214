"""Blocks are given out lowest first, adjacent ones as one iov: what the kernel's bitmap does, in runs."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.ring.blocks import Blocks

SIZE = 16


def blocks(count: int, rest: int = 0) -> Blocks:
    return Blocks(memoryview(bytearray(1024 + count * SIZE + rest)), 1024, SIZE)


def test_only_whole_blocks_are_given_out() -> None:
    assert blocks(3, rest=15).total == 3 * SIZE
    assert blocks(0, rest=15).total == 0


def test_adjacent_blocks_are_one_iov() -> None:
    area = blocks(8)
    assert area.take(3 * SIZE - 1) == [(1024, 3 * SIZE - 1)]
    assert area.take(1) == [(1024 + 3 * SIZE, 1)]
    assert area.take(0) == []
    assert area.free == 4 * SIZE


def test_lowest_first() -> None:
    area = blocks(8)
    one, two, three = area.take(SIZE), area.take(2 * SIZE), area.take(SIZE)
    area.give(one)
    area.give(three)
    assert area.take(2 * SIZE + 5) == [(1024, SIZE), (1024 + 3 * SIZE, SIZE + 5)]
    area.give(two)
    assert area.take(1) == [(1024 + SIZE, 1)]


def test_all_blocks() -> None:
    area = blocks(2)
    all_ = area.take(2 * SIZE)
    area.give(all_)
    assert area.take(SIZE) + area.take(SIZE) == [(1024, SIZE), (1024 + SIZE, SIZE)]
    area.give([(1024, SIZE)])
    assert area.take(SIZE) == [(1024, SIZE)]
    area.give([(1024 + SIZE, SIZE)])
    assert area.take(SIZE) == [(1024 + SIZE, SIZE)]


def test_data() -> None:
    area = blocks(4)
    low, _ = area.take(SIZE), area.take(SIZE)
    area.give(low)
    iovs = area.take(SIZE + 3)
    area.write(iovs, memoryview(b"0123456789abcdefghi"))
    assert area.read(iovs) == b"0123456789abcdefghi"
    area.give(iovs)
    assert area.read(area.take(4)) == b"0123"  # stale


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6 * SIZE))))
def test_against_a_bitmap(steps: list[tuple[bool, int]]) -> None:
    area, used = blocks(24), [False] * 24
    held: list[list[tuple[int, int]]] = []
    for take, number in steps:
        if take and -(-number // SIZE) <= used.count(False):
            iovs = area.take(number)
            expected = [at for at in range(24) if not used[at]][: -(-number // SIZE)]
            assert _blocks_of(iovs) == expected
            assert sum(length for _, length in iovs) == number
            assert all(length > 0 for _, length in iovs)
            # Neighbours were merged: no iov begins where the one before ended.
            assert all(a + b != c for (a, b), (c, _) in pairwise(iovs))
            held.append(iovs)
            for at in expected:
                used[at] = True
        elif held and not take:
            iovs = held.pop(number % len(held))
            area.give(iovs)
            for at in _blocks_of(iovs):
                used[at] = False
        assert area.free == used.count(False) * SIZE


def _blocks_of(iovs: list[tuple[int, int]]) -> list[int]:
    return [
        block
        for base, length in iovs
        for block in range((base - 1024) // SIZE, (base - 1024) // SIZE + -(-length // SIZE))
    ]
