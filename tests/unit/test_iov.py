"""iov: scatter/gather lists against plain bytes."""

from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner import iov
from tcmu_runner.iov import Buffers

PIECES = st.lists(st.binary(max_size=9), max_size=6)


def buffers(pieces: list[bytes]) -> Buffers:
    return [memoryview(bytearray(piece)) for piece in pieces]


@given(PIECES)
def test_length_and_gather_see_every_byte(pieces: list[bytes]) -> None:
    assert iov.length(buffers(pieces)) == len(b"".join(pieces))
    assert iov.gather(buffers(pieces)) == b"".join(pieces)


@given(PIECES, st.integers(0, 60), st.integers(0, 60))
def test_cut_is_a_slice(pieces: list[bytes], start: int, size: int) -> None:
    assert iov.gather(iov.cut(buffers(pieces), start, size)) == b"".join(pieces)[start : start + size]


def test_cut_does_not_copy() -> None:
    whole = buffers([b"abc", b"def"])
    iov.zero(iov.cut(whole, 2, 2))
    assert iov.gather(whole) == b"ab\0\0ef"


def test_cut_gives_no_empty_views() -> None:
    """preadv with an empty iovec would be counted against IOV_MAX, and a handler never expects one."""
    assert [bytes(view) for view in iov.cut(buffers([b"ab", b"", b"cd"]), 1, 3)] == [b"b", b"cd"]


@given(PIECES, st.binary(max_size=60))
def test_scatter_fills_what_fits(pieces: list[bytes], data: bytes) -> None:
    into, before = buffers(pieces), b"".join(pieces)
    copied = iov.scatter(into, data)
    assert copied == min(len(before), len(data))
    assert iov.gather(into) == data[:copied] + before[copied:]


@given(PIECES)
def test_zero_clears_all(pieces: list[bytes]) -> None:
    into = buffers(pieces)
    iov.zero(into)
    assert iov.gather(into) == bytes(len(b"".join(pieces)))


def test_zero_clears_more_than_its_own_zeroes() -> None:
    into = buffers([b"\xff" * (len(iov.ZEROES) + 1)])
    iov.zero(into)
    assert not any(into[0])


def test_allocate_is_one_zeroed_buffer_or_none() -> None:
    assert [bytes(buffer) for buffer in iov.allocate(3)] == [b"\0\0\0"]
    assert iov.allocate(0) == []


@given(st.binary(max_size=40), st.data())
def test_first_difference_is_the_lowest(one: bytes, data: st.DataObject) -> None:
    other = bytearray(one)
    changed = data.draw(st.sets(st.integers(0, len(one) - 1), max_size=3)) if one else set()
    for at in changed:
        other[at] ^= 0x40
    assert iov.first_difference(one, bytes(other)) == min(changed, default=None)
