"""Cutting a stream into PDUs: RFC 7143, 11.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi.framing import READ_AT_LEAST, Frame, Framer, FramingError, Sender


def feed(framer: Framer, data: bytes) -> None:
    space = framer.space()
    assert len(space) >= READ_AT_LEAST
    space[: len(data)] = data
    framer.received(len(data))


def header(data: int, ahs: int = 0) -> bytes:
    return bytes((0x01, 0x80, 0, 0, ahs // 4)) + data.to_bytes(3, "big") + bytes(range(40))


def frames(framer: Framer) -> list[tuple[bytes, bytes, bytes, bool]]:
    found = []
    while (frame := framer.next()) is not None:
        found.append((frame.header, frame.ahs, bytes(frame.data), frame.intact))
    return found


PDUS = st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 3)), min_size=1, max_size=5)


@given(PDUS, st.booleans(), st.booleans(), st.lists(st.integers(1, 90), max_size=20))
def test_what_a_sender_puts_a_framer_finds(
    pdus: list[tuple[bytes, int]], header_digest: bool, data_digest: bool, cuts: list[int]
) -> None:
    """In whatever pieces it arrives; additional headers count as header."""
    sender, framer = Sender(), Framer(1000)
    sender.header_digest = framer.header_digest = header_digest
    sender.data_digest = framer.data_digest = data_digest
    for data, words in pdus:
        sender.put(header(len(data), words * 4) + bytes(words * 4), data)
    stream, found = sender.take(), []
    for cut in [*cuts, len(stream)]:
        feed(framer, stream[:cut])
        stream = stream[cut:]
        found += frames(framer)
    assert found == [(header(len(data), words * 4), bytes(words * 4), data, True) for data, words in pdus]
    assert not sender


def test_padding_is_sent_and_skipped() -> None:
    sender = Sender()
    sender.put(header(5), b"hello")
    assert sender.take() == header(5) + b"hello\0\0\0"


def test_digest_of_data_covers_its_padding() -> None:
    """12.1: the example of A.4, 32 zero bytes, as 30 of data and 2 of padding."""
    sender = Sender()
    sender.data_digest = True
    sender.put(header(30), bytes(30))
    assert sender.take()[-4:].hex() == "aa36918a"


def test_wrong_data_digest_is_told() -> None:
    framer = Framer(1000)
    framer.data_digest = True
    feed(framer, header(4) + b"data" + bytes(4))
    assert frames(framer) == [(header(4), b"", b"data", False)]


def test_wrong_header_digest_ends_it() -> None:
    framer = Framer(1000)
    framer.header_digest = True
    feed(framer, header(0) + bytes(4))
    with pytest.raises(FramingError, match="header digest"):
        framer.next()


def test_segment_that_is_too_long() -> None:
    framer = Framer(1000)
    feed(framer, header(1001))
    with pytest.raises(FramingError, match="1001 bytes, 1000 at most"):
        framer.next()


def test_frames_stay_valid_until_more_is_received() -> None:
    framer = Framer(100000)
    feed(framer, header(4) + b"one." + header(4) + b"two.")
    first, second = framer.next(), framer.next()
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert (bytes(first.data), bytes(second.data)) == (b"one.", b"two.")


def test_what_is_not_whole_moves_to_the_front() -> None:
    """So that there is always room for one receive, however long a connection lives."""
    framer = Framer(1000)
    pdu = header(1000) + bytes(range(250)) * 4
    part, rest = pdu[:500], pdu[500:]
    feed(framer, part)
    for _ in range(200):  # more than the buffer holds
        assert frames(framer) == []
        feed(framer, rest + part)
        assert framer.next() == Frame(header(1000), b"", memoryview(pdu[48:]), True)
        assert framer.next() is None
