"""The kernel's end of the ring: Documentation/target/tcmu-design.rst, drivers/target/target_core_user.c."""

from sys import byteorder

import pytest

from tcmu_runner.ring.writer import ProducerAlarm, RingWriter

from .raw import Raw


def write(writer: RingWriter, length: int, opcode: int = 1, id_: int = 0) -> int:
    at = writer.place(length)
    writer.append((length | opcode).to_bytes(4, byteorder).ljust(length, b"\xee"), id_)
    return at


def writer_of(raw: Raw) -> RingWriter:
    return RingWriter(raw.area, raw.size)


def test_entries_follow_each_other() -> None:
    raw = Raw()
    writer = writer_of(raw)
    assert write(writer, 120, id_=7) == 128
    assert write(writer, 40, opcode=2) == 248
    assert raw.head == 160
    assert raw.bytes[128 + 160 : 128 + 168] == bytes(8)
    assert writer.posted
    raw.tail = 160
    assert list(writer.completed()) == [(128, 1, 7), (248, 2, 0)]
    assert list(writer.completed()) == []


def test_room_up_to_the_last_byte_but_one() -> None:
    raw = Raw(size=384)
    writer = writer_of(raw)
    assert writer.has_room(376)
    assert not writer.has_room(384)  # full would look empty
    write(writer, 120)
    assert writer.has_room(256)
    assert not writer.has_room(264)


def test_padding_counts() -> None:
    raw = Raw(size=384)
    writer = writer_of(raw)
    for _ in range(2):
        write(writer, 128)
    raw.tail = 256
    assert list(writer.completed())
    # 128 bytes to the end, 256 at the beginning: one byte must stay free
    assert writer.has_room(128)
    assert writer.has_room(248)
    assert not writer.has_room(256)
    assert write(writer, 136) == 128
    assert raw.entries()[0] == (384, 0, 0, 128)
    assert raw.bytes[388:512] == bytes(124)
    raw.tail = 136
    assert list(writer.completed()) == [(384, 0, 0), (128, 1, 0)]


def test_entry_that_just_fits_needs_no_padding() -> None:
    raw = Raw(size=384)
    writer = writer_of(raw)
    write(writer, 128)
    write(writer, 128)
    raw.tail = 256
    assert list(writer.completed())
    assert write(writer, 128) == 384
    assert raw.head == 0


def test_space_comes_back_only_when_slots_are_processed() -> None:
    raw = Raw(size=384)
    writer = writer_of(raw)
    write(writer, 248)
    raw.tail = 248
    assert not writer.has_room(136)
    assert list(writer.completed())
    assert writer.has_room(136)


def test_reset() -> None:
    raw = Raw()
    writer = writer_of(raw)
    write(writer, 120)
    raw.tail = 8
    with pytest.raises(ProducerAlarm):
        list(writer.completed())
    writer.reset()
    assert (raw.head, raw.tail, writer.broken, writer.posted) == (0, 0, "", False)
    assert list(writer.completed()) == []


@pytest.mark.parametrize("tail", [8, 112, 128, 240, 241, 248, 3968, 2**32 - 8])
def test_tail_that_is_no_boundary(tail: int) -> None:
    """The kernel would take requests for results, or never come back."""
    raw = Raw()
    writer = writer_of(raw)
    write(writer, 120)
    write(writer, 136)
    raw.tail = tail
    with pytest.raises(ProducerAlarm, match=f"tail {tail} is not the end of a slot, the head is 256"):
        list(writer.completed())
    raw.tail = 120
    with pytest.raises(ProducerAlarm, match=f"tail {tail} is not the end"):  # broken once, broken ever after
        list(writer.completed())


def test_len_op_changed() -> None:
    raw = Raw()
    writer = writer_of(raw)
    write(writer, 120)
    raw.put(128, "I", 128 | 1)
    raw.tail = 120
    with pytest.raises(ProducerAlarm, match="len_op 0x79 of the slot at offset 128 was changed to 0x81"):
        list(writer.completed())


def test_head_changed() -> None:
    raw = Raw()
    writer = writer_of(raw)
    write(writer, 120)
    raw.head = 128
    with pytest.raises(ProducerAlarm, match="head 120 in the mailbox was changed to 128"):
        list(writer.completed())
    assert writer.broken
    with pytest.raises(ProducerAlarm, match="head 120 in the mailbox was changed to 128"):
        writer.has_room(8)
