"""Any ring contents either yield commands or raise RingCorrupt: nothing else, and nothing is written."""

import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcmu_runner.ring import Consumer, Request, RingCorrupt, TaskManagement

from .raw import Raw

SIZE = 512
GUARD = 64
SCRIBBLE = b"\x5a"

# Numbers that mean something, or are just beside it, and any others.
numbers = st.one_of(
    st.sampled_from([0, 1, 2, 8, 104, 112, 113, 120, 121, 122, 127, 128, 129, 504, 511, 512, 640, 641]),
    st.integers(0, 2**16),
    st.sampled_from([2**31, 2**32 - 8, 2**32 - 1]),
)
words = st.tuples(st.integers(0, SIZE // 4 - 1), numbers)


def check(contents: bytearray) -> None:
    """The invariant, for an area in the middle of guarded memory."""
    memory = bytearray(SCRIBBLE * GUARD + contents + SCRIBBLE * GUARD)
    area = memoryview(memory)[GUARD:-GUARD]
    found: list[Request | TaskManagement] = []
    consumer = None
    try:
        consumer = Consumer(area)
        consumer.pending()
        found = consumer.fetch()
    except RingCorrupt as error:
        assert str(error)
    assert memory[GUARD:-GUARD] == contents
    requests = [item for item in found if isinstance(item, Request)]
    assert len({request.id for request in requests}) == len(requests)
    for request in requests:
        assert 6 <= len(request.cdb) <= 263
        for part in (*request.data, *request.data_in):
            part[:] = SCRIBBLE * len(part)
    assert memory[:GUARD] + memory[-GUARD:] == SCRIBBLE * 2 * GUARD
    if consumer is not None and found:
        ring_end = sum(struct.unpack_from("=II", contents, 4))
        assert memory[GUARD : GUARD + ring_end] == contents[:ring_end]
        for request in reversed(requests):
            consumer.complete(request.id, 2, b"\xff" * 96)
        consumer.publish()
        assert consumer.idle
        assert memory[GUARD : GUARD + 64] == contents[:64]  # of the mailbox, only the tail is ours
        assert memory[GUARD + 68 : GUARD + 128] == contents[68:128]
    assert memory[:GUARD] + memory[-GUARD:] == SCRIBBLE * 2 * GUARD


def healthy() -> Raw:
    raw = Raw(SIZE, 2048)
    raw.head = raw.tail = 256
    raw.command(1, b"\x28" + bytes(9), [(0, 512)])
    raw.entry(0, SIZE - raw.head)
    raw.task_management(5, [1])
    raw.command(2, b"\x88" + bytes(15), [(512, 512), (1536, 64)])
    return raw


def test_healthy() -> None:
    raw = healthy()
    check(raw.bytes)
    assert len(Consumer(raw.area).fetch()) == 3


@settings(max_examples=500)
@given(st.lists(words, min_size=1, max_size=6))
@example([(0, 129), (12, 2**32 - 8)])
def test_mutated_ring(mutations: list[tuple[int, int]]) -> None:
    raw = healthy()
    for word, number in mutations:
        raw.put(128 + 4 * word, "I", number)
    check(raw.bytes)


@settings(max_examples=300)
@given(st.sampled_from([0, 4, 8, 12, 64]), numbers)
def test_mutated_mailbox(offset: int, number: int) -> None:
    raw = healthy()
    raw.put(offset, "I", number)
    check(raw.bytes)


@settings(max_examples=300)
@given(st.binary(min_size=SIZE, max_size=SIZE), st.integers(0, SIZE // 8), st.integers(0, SIZE // 8))
def test_random_ring(contents: bytes, head: int, tail: int) -> None:
    raw = Raw(SIZE, 2048)
    raw.bytes[128 : 128 + SIZE] = contents
    raw.head, raw.tail = 8 * head, 8 * tail
    check(raw.bytes)


@given(st.binary(max_size=300))
def test_random_area(contents: bytes) -> None:
    check(bytearray(contents))
