"""The kernel's side, against completions written by hand: drivers/target/target_core_user.c."""

import mmap
import re

import pytest

from tcmu_runner.ring import I386, LP64, Layout, MailboxFlag, Producer, ProducerAlarm, TmrType

from .raw import Raw

READ_10 = bytes.fromhex("28 00 00 00 00 08 00 00 01 00")
WRITE_10 = bytes.fromhex("2a 00 00 00 00 08 00 00 01 00")
# SAM-5 5.3.1
GOOD, CHECK_CONDITION, BUSY, TASK_SET_FULL, TASK_ABORTED = 0x00, 0x02, 0x08, 0x28, 0x40
# SPC-4 4.5.3: fixed format sense data
NOT_READY = bytes.fromhex("70 00 02 00 00 00 00 0a 00 00 00 00 08 00").ljust(96, b"\0")
INVALID_FIELD = bytes.fromhex("70 00 05 00 00 00 00 0a 00 00 00 00 24 00").ljust(96, b"\0")
MEDIUM_ERROR = bytes.fromhex("70 00 03 00 00 00 00 0a 00 00 00 00 11 00").ljust(96, b"\0")
UNKNOWN_OP, READ_LEN, KEEP_BUFFER = 1, 2, 4


def pair(
    size: int = 3968, data: int = 65536, flags: int = 0xF, block_size: int = 4096, layout: Layout = LP64
) -> tuple[Raw, Producer]:
    raw = Raw(size, data)
    return raw, Producer(raw.area, 128 + size, MailboxFlag(flags), block_size, layout)


def iovs(raw: Raw, at: int) -> list[tuple[int, int]]:
    """Offset in the data, and length."""
    count = raw.get(at + 8, "I") + raw.get(at + 12, "I")
    places = [at + 48 + 16 * number for number in range(count)]
    return [(raw.get(place, "Q") - raw.data, raw.get(place + 8, "Q")) for place in places]


# What is on the ring


def test_mailbox() -> None:
    raw = Raw()
    raw.bytes[:128] = b"\xff" * 128
    Producer(raw.area, 4096, MailboxFlag.OUT_OF_ORDER)
    formatted = Raw(flags=1)
    assert raw.bytes[:128] == formatted.bytes[:128]


@pytest.mark.parametrize(
    ("size", "ring_size", "block_size"),
    [(4096, 129, 512), (4096, 128, 512), (4096, 4224, 512), (4096, 1024, 0)],
)
def test_sizes_that_cannot_be(size: int, ring_size: int, block_size: int) -> None:
    message = f"ring of {ring_size} bytes and blocks of {block_size} in {size} bytes"
    with pytest.raises(ValueError, match=message):
        Producer(memoryview(bytearray(size)), ring_size, block_size=block_size)


@pytest.mark.parametrize("cdb", [bytes(6), READ_10, bytes.fromhex("7f00000000000018") + bytes(24)])
@pytest.mark.parametrize("length", [0, 1, 512, 4096, 5000])
def test_command(cdb: bytes, length: int) -> None:
    raw, producer = pair()
    expected = Raw()
    at = expected.command(1, cdb, [(0, length)] if length else [])
    ticket = producer.submit(cdb + b"more", data_in_length=length)
    assert raw.bytes == expected.bytes
    assert raw.entries() == [(at, 1, 1, raw.head)]
    assert (ticket.id, ticket.status, ticket.cdb) == (1, None, cdb)
    assert producer.ticket(1) is ticket
    assert producer.ticket(2) is None
    assert producer.outstanding == 1


def test_command_of_32_bits() -> None:
    raw, producer = pair(layout=I386)
    producer.submit(READ_10, data_in_length=512)
    # iov_cnt at 8, cdb_off at 20, iov at 44
    assert [raw.get(128 + at, "I") for at in (8, 20, 44, 48)] == [1, 240, 4096, 512]


@pytest.mark.parametrize("cdb", [b"\x28" + bytes(8), bytes.fromhex("7f00000000000018") + bytes(23)])
def test_cdb_too_short(cdb: bytes) -> None:
    _, producer = pair()
    with pytest.raises(ValueError, match=f"CDB of {len(cdb)} bytes, {len(cdb) + 1} expected: {cdb.hex()}"):
        producer.submit(cdb)


def test_event() -> None:
    raw, producer = pair()
    assert not producer.event_due()
    producer.submit(bytes(6))
    producer.submit(bytes(6))
    assert producer.event_due()
    assert not producer.event_due()
    raw.answer(1)
    producer.reap()
    assert not producer.event_due()


def test_data_out_is_copied_before_the_command_is_posted() -> None:
    raw, producer = pair()
    data = bytearray(b"abc" * 2000)
    producer.submit(WRITE_10, data)
    data[:3] = b"xyz"
    assert raw.bytes[raw.data :][:6000] == b"abc" * 2000
    assert iovs(raw, 128) == [(0, 6000)]


def test_data_out_of_any_item_size() -> None:
    raw, producer = pair()
    producer.submit(WRITE_10, memoryview(b"abcdefgh").cast("I"))
    assert raw.bytes[raw.data :][:8] == b"abcdefgh"


def test_lowest_ids_and_blocks_first_and_data_in_scattered() -> None:
    raw, producer = pair()
    for length in (4096, 8192, 512, 4096):
        producer.submit(READ_10, data_in_length=length)
    for id_ in (3, 1):
        raw.answer(id_)
    producer.reap()
    ticket = producer.submit(READ_10, data_in_length=2 * 4096 + 100)
    assert ticket.id == 1
    at = raw.entries()[-1][0]
    assert iovs(raw, at) == [(0, 4096), (3 * 4096, 4096), (5 * 4096, 100)]
    for start, length in iovs(raw, at):
        raw.bytes[raw.data + start : raw.data + start + length] = bytes([start >> 12]) * length
    assert producer.submit(bytes(6)).id == 3
    assert producer.submit(bytes(6)).id == 5
    for id_ in (2, 4, 1):
        raw.answer(id_)
    ended = producer.reap()
    assert [each.id for each in ended] == [2, 4, 1]
    assert ended[2] is ticket
    assert ticket.data == bytes([0]) * 4096 + bytes([3]) * 4096 + bytes([5]) * 100


def test_stale_data() -> None:
    raw, producer = pair()
    producer.submit(WRITE_10, b"secret")
    raw.answer(1)
    producer.reap()
    ticket = producer.submit(READ_10, data_in_length=6)
    raw.answer(1)
    producer.reap()
    assert ticket.data == b"secret"


def test_bidirectional() -> None:
    raw, producer = pair()
    ticket = producer.submit(WRITE_10, b"out", 4100)
    expected = Raw()
    at = expected.command(1, WRITE_10, [(0, 3)], [(4096, 4100)])
    expected.bytes[expected.data : expected.data + 3] = b"out"
    assert raw.bytes == expected.bytes
    assert at == 128
    raw.bytes[raw.data + 4096 : raw.data + 8196] = b"i" * 4100
    raw.answer(1, uflags=READ_LEN, read_len=5)  # not for these
    assert producer.reap() == [ticket]
    assert ticket.data == b"i" * 4100
    assert producer.submit(READ_10, data_in_length=1).id == 1
    assert iovs(raw, raw.entries()[0][0]) == [(0, 1)]


def test_wrap() -> None:
    raw, producer = pair(size=384)
    for _ in range(2):
        producer.submit(READ_10)
    raw.step()
    raw.tail = 0
    raw.answer(1)
    raw.answer(2)
    producer.reap()
    producer.submit(b"\x7f" + bytes(6) + b"\x18" + bytes(24))  # 144 bytes, 128 are left
    assert raw.entries() == [(384, 0, 0, 128), (128, 1, 1, 144)]
    assert raw.get(128 + 24, "Q") == 128 + 112
    raw.step()
    raw.answer(1)
    assert [ticket.id for ticket in producer.reap()] == [1]


# What the initiator gets


@pytest.mark.parametrize("status", [GOOD, 0x04, BUSY, 0x18, TASK_SET_FULL, 0x30, TASK_ABORTED])
def test_status_without_data(status: int) -> None:
    raw, producer = pair()
    for ticket in (producer.submit(bytes(6)), producer.submit(WRITE_10, b"data")):
        raw.answer(ticket.id, status)
        assert producer.reap() == [ticket]
        assert (ticket.status, ticket.sense, ticket.data) == (status, b"", b"")
    assert producer.outstanding == 0


@pytest.mark.parametrize(
    ("status", "uflags", "read_len", "data"),
    [
        (GOOD, 0, 0, 6),
        (GOOD, 0, 3, 6),  # READ_LEN not set
        (GOOD, READ_LEN, 3, 3),
        (GOOD, READ_LEN, 0, 6),  # 0 is "not used"
        (GOOD, READ_LEN, 7, 6),  # clamped
        (CHECK_CONDITION, 0, 0, 0),
        (CHECK_CONDITION, 0, 3, 0),
        (CHECK_CONDITION, READ_LEN, 0, 0),
        (CHECK_CONDITION, READ_LEN, 3, 3),
        (CHECK_CONDITION, READ_LEN, 2**32 - 1, 6),
        (BUSY, READ_LEN, 3, 0),
        (BUSY, 0, 0, 0),
    ],
)
def test_data_in(status: int, uflags: int, read_len: int, data: int) -> None:
    raw, producer = pair()
    ticket = producer.submit(READ_10, data_in_length=6)
    raw.bytes[raw.data : raw.data + 8] = b"databeef"
    raw.answer(1, status, uflags, read_len, MEDIUM_ERROR)
    assert producer.reap() == [ticket]
    assert ticket.status == status
    assert ticket.sense == (MEDIUM_ERROR if status == CHECK_CONDITION else b"")
    assert ticket.data == b"databe"[:data]


def test_read_len_is_for_data_in_only() -> None:
    raw, producer = pair()
    ticket = producer.submit(WRITE_10, b"data")
    raw.answer(1, GOOD, READ_LEN, 2)
    producer.reap()
    assert ticket.data == b""


def test_older_kernel_ignores_flags() -> None:
    raw, producer = pair(flags=1)
    ticket = producer.submit(READ_10, data_in_length=4)
    raw.answer(1, GOOD, READ_LEN | KEEP_BUFFER, 2)
    producer.reap()
    assert len(ticket.data) == 4
    assert producer.outstanding == 0


def test_sense_of_zeroes_is_passed_on() -> None:
    raw, producer = pair()
    ticket = producer.submit(bytes(6))
    raw.answer(1, CHECK_CONDITION)
    producer.reap()
    assert ticket.sense == bytes(96)


def test_command_flagged_as_unknown() -> None:
    raw, producer = pair()
    ticket = producer.submit(READ_10, data_in_length=6)
    raw.answer(1, GOOD, UNKNOWN_OP)
    producer.reap()
    assert (ticket.status, ticket.sense, ticket.data) == (CHECK_CONDITION, NOT_READY, b"")


# Not enough room


def test_more_than_the_data_area() -> None:
    _, producer = pair(data=8192 + 4095)
    ticket = producer.submit(READ_10, data_in_length=8193)
    assert (ticket.id, ticket.status, ticket.sense) == (0, CHECK_CONDITION, INVALID_FIELD)
    assert producer.submit(WRITE_10, b"x", 4097).sense == INVALID_FIELD
    assert producer.submit(READ_10, data_in_length=8192).id == 1


def test_entry_of_more_than_half_a_ring() -> None:
    _, producer = pair(size=512)
    ticket = producer.submit(b"\x7f" + bytes(6) + b"\xfc" + bytes(252))
    assert (ticket.id, ticket.status, ticket.sense) == (0, CHECK_CONDITION, INVALID_FIELD)
    assert producer.outstanding == 0


def fragmented() -> tuple[Raw, Producer]:
    """A ring of 512 bytes, of whose data blocks every second is kept: 13 iovs make an entry of 264 bytes."""
    raw, producer = pair(size=512, data=26 * 512, block_size=512)
    for number in range(26):
        producer.submit(READ_10, data_in_length=512)
        raw.answer(number + 1, uflags=KEEP_BUFFER)
        if raw.tail != raw.head:
            raw.step()
        producer.reap()
    for number in range(0, 26, 2):
        producer.free_kept(number + 1)
    assert producer.outstanding == 13
    return raw, producer


def test_too_many_fragments() -> None:
    _, producer = fragmented()
    assert producer.submit(READ_10, data_in_length=13 * 512).sense == INVALID_FIELD
    # It holds nothing: twelve fragments still fit.
    assert producer.submit(READ_10, data_in_length=12 * 512).id == 1


def test_failure_in_the_queue_is_another_sense() -> None:
    raw, producer = fragmented()
    while not producer.queued:
        producer.submit(bytes(6))
    late = producer.submit(READ_10, data_in_length=13 * 512)
    last = producer.submit(bytes(6))
    assert (late.id, late.status) == (0, None)
    ended = []
    while raw.tail != raw.head:
        opcode, id_ = raw.entries()[0][1:3]
        if opcode:
            raw.answer(id_)
        else:
            raw.step()
        ended += producer.reap()
    assert late in ended
    assert (late.status, late.sense) == (CHECK_CONDITION, NOT_READY)
    assert last.status == GOOD


def test_no_id_left() -> None:
    raw, producer = pair(size=(8 << 20) - 128, data=0)
    for _ in range(65535):
        producer.submit(bytes(6))
    ticket = producer.submit(bytes(6))
    assert (ticket.id, ticket.status, ticket.sense) == (0, TASK_SET_FULL, b"")
    raw.answer(65535)
    producer.reap()
    assert producer.submit(bytes(6)).id == 65535


def test_queue_for_data_blocks() -> None:
    raw, producer = pair(data=8192)
    first = producer.submit(READ_10, data_in_length=8192)
    second = producer.submit(WRITE_10, b"second")
    third = producer.submit(bytes(6))  # would fit, but does not overtake
    assert (second.id, third.id, producer.queued) == (0, 0, 2)
    assert producer.tickets() == [first, second, third]
    raw.answer(1)
    producer.event_due()
    assert producer.reap() == [first]
    assert producer.event_due()
    assert (second.id, third.id, producer.queued) == (1, 2, 0)
    assert raw.bytes[raw.data :][:6] == b"second"


def test_queue_for_room_on_the_ring() -> None:
    raw, producer = pair(size=384)
    tickets = [producer.submit(bytes(6)) for _ in range(4)]
    assert [ticket.id for ticket in tickets] == [1, 2, 3, 0]
    raw.answer(1)
    assert [ticket.id for ticket in producer.reap()] == [1]
    assert tickets[3].id == 0  # needs the 24 bytes of padding too
    raw.answer(2)
    producer.reap()
    assert tickets[3].id == 1
    assert [entry[1:3] for entry in raw.entries()] == [(1, 3), (0, 0), (1, 1)]


# Task management


def test_task_management() -> None:
    raw, producer = pair()
    one, two, three = (producer.submit(bytes(6)) for _ in range(3))
    raw.answer(2)
    producer.reap()
    assert producer.task_management(TmrType.LUN_RESET, [one, two, three]) == []
    expected = Raw()
    at = expected.task_management(5, [1, 3])
    assert raw.bytes[128 + 360 :][:40] == expected.bytes[at : at + 40]
    raw.answer(1)
    raw.answer(3)
    raw.step()
    assert producer.reap() == [one, three]
    assert raw.entries() == []


def test_task_management_without_the_capability() -> None:
    raw, producer = pair(flags=0xB)
    ticket = producer.submit(bytes(6))
    assert producer.task_management(TmrType.ABORT_TASK, [ticket]) == []
    assert len(raw.entries()) == 1


def test_task_management_of_nothing() -> None:
    raw, producer = pair()
    producer.task_management(TmrType.ABORT_TASK, [])
    assert raw.entries() == [(128, 2, 0, 32)]
    assert producer.event_due()


def test_task_management_of_a_command_that_waits() -> None:
    raw, producer = pair(data=4096)
    posted, waits = (producer.submit(READ_10, data_in_length=4096) for _ in range(2))
    assert producer.task_management(TmrType.LUN_RESET, [posted, waits]) == [waits]
    assert (waits.status, waits.sense) == (TASK_ABORTED, b"")
    assert raw.get(128 + 128 + 12, "I") == 1  # cmd_cnt
    assert producer.queued == 0


def test_commands_do_not_overtake_task_management() -> None:
    raw, producer = pair(size=384)
    tickets = [producer.submit(READ_10) for _ in range(2)]
    tickets.append(producer.submit(bytes(6)))
    assert raw.head == 376  # 7 bytes are left
    producer.task_management(TmrType.LUN_RESET, tickets)
    late = producer.submit(bytes(6))
    assert late.id == 0
    raw.answer(3)
    producer.reap()
    assert [entry[1] for entry in raw.entries()] == [1, 1, 0, 2]
    assert late.id == 0
    raw.answer(2)
    producer.reap()
    assert [entry[1] for entry in raw.entries()] == [1, 0, 2, 1]
    assert late.id == 2


# Timeouts


def test_expired_command_keeps_id_and_blocks_until_it_is_completed() -> None:
    raw, producer = pair(data=4096)
    ticket = producer.submit(READ_10, data_in_length=4096)
    assert producer.expire(ticket)
    assert (ticket.status, ticket.sense) == (CHECK_CONDITION, NOT_READY)
    assert not producer.expire(ticket)
    assert producer.outstanding == 1
    waits = producer.submit(READ_10, data_in_length=1)
    raw.answer(1)
    assert producer.reap() == []
    assert (ticket.status, ticket.data) == (CHECK_CONDITION, b"")
    assert waits.id == 1


def test_command_that_waits_expires() -> None:
    _, producer = pair(data=4096)
    producer.submit(READ_10, data_in_length=4096)
    waits = producer.submit(READ_10, data_in_length=1)
    assert producer.expire(waits)
    assert (waits.status, waits.sense) == (TASK_SET_FULL, b"")
    assert producer.queued == 0


def test_expired_commands_are_not_aborted() -> None:
    raw, producer = pair()
    ticket = producer.submit(bytes(6))
    producer.expire(ticket)
    producer.task_management(TmrType.LUN_RESET, [ticket])
    assert raw.get(128 + 120 + 12, "I") == 0


# Block, reset


def test_block() -> None:
    raw, producer = pair(data=4096)
    first = producer.submit(READ_10, data_in_length=4096)
    second = producer.submit(bytes(6))
    waits = producer.submit(READ_10, data_in_length=4096)
    raw.answer(1)
    assert not producer.blocked
    assert producer.block() == [first, waits]
    assert producer.blocked
    assert (first.status, waits.status) == (GOOD, BUSY)
    refused = producer.submit(bytes(6))
    assert (refused.id, refused.status) == (0, BUSY)
    raw.answer(2)  # those on the ring are still served
    assert producer.reap() == [second]
    producer.unblock()
    assert producer.submit(bytes(6)).status is None


@pytest.mark.parametrize(("level", "status", "sense"), [(1, BUSY, b""), (2, CHECK_CONDITION, NOT_READY)])
def test_reset(level: int, status: int, sense: bytes) -> None:
    raw, producer = pair()
    tickets = [producer.submit(READ_10, data_in_length=4096) for _ in range(4)]
    raw.answer(2, uflags=KEEP_BUFFER)
    producer.reap()
    raw.answer(1)  # not processed
    producer.expire(tickets[2])
    assert producer.reset(level) == [tickets[0], tickets[3]]
    assert [(ticket.status, ticket.sense) for ticket in (tickets[0], tickets[3])] == [(status, sense)] * 2
    assert (raw.head, raw.tail, producer.outstanding) == (0, 0, 0)
    assert producer.submit(READ_10, data_in_length=65536).id == 1
    assert iovs(raw, 128) == [(0, 65536)]


def test_reset_level() -> None:
    _, producer = pair()
    with pytest.raises(ValueError, match="level 0 of reset_ring, 1 or 2 expected"):
        producer.reset(0)


def test_reset_posts_what_waits_unless_blocked() -> None:
    raw, producer = pair(data=4096)
    first, second = (producer.submit(READ_10, data_in_length=4096) for _ in range(2))
    assert producer.reset() == [first]
    assert second.id == 1
    assert len(raw.entries()) == 1


def test_reset_forgets_task_management() -> None:
    raw, producer = pair(size=256, data=0)
    tickets = [producer.submit(bytes(6)) for _ in range(2)]
    producer.task_management(TmrType.LUN_RESET, tickets)
    producer.reset()
    assert raw.entries() == []
    assert producer.submit(bytes(6)).id == 1


# Kept buffers


def test_kept_buffer() -> None:
    raw, producer = pair(data=8192)
    ticket = producer.submit(READ_10, data_in_length=4096)
    raw.answer(1, uflags=KEEP_BUFFER)
    assert producer.reap() == [ticket]
    assert ticket.status == GOOD
    assert producer.outstanding == 1
    assert producer.submit(READ_10, data_in_length=4096).id == 2
    waits = producer.submit(READ_10, data_in_length=4096)
    assert producer.free_kept(1) == []
    assert waits.id == 1
    assert iovs(raw, raw.entries()[-1][0]) == [(0, 4096)]


@pytest.mark.parametrize("id_", [0, 1, 2, 3])
def test_free_what_is_not_kept(id_: int) -> None:
    raw, producer = pair()
    producer.submit(bytes(6))
    producer.submit(bytes(6))
    raw.answer(2)
    producer.reap()
    with pytest.raises(ValueError, match=f"no buffer is kept for command {id_}"):
        producer.free_kept(id_)


def test_expired_command_is_kept() -> None:
    raw, producer = pair()
    producer.expire(producer.submit(READ_10, data_in_length=4096))
    raw.answer(1, uflags=KEEP_BUFFER)
    assert producer.reap() == []
    assert producer.outstanding == 1
    producer.free_kept(1)
    assert producer.outstanding == 0


def test_close_frees_kept_buffers_only() -> None:
    raw, producer = pair()
    for _ in range(3):
        producer.submit(READ_10, data_in_length=4096)
    for id_ in (3, 1):
        raw.answer(id_, uflags=KEEP_BUFFER)
    producer.reap()
    assert producer.close() == []
    assert producer.outstanding == 1
    assert producer.submit(READ_10, data_in_length=4096).id == 1


# What the real kernel would not survive


def alarm(producer: Producer, message: str) -> None:
    with pytest.raises(ProducerAlarm, match=re.escape(message)):
        producer.reap()


def test_unknown_id() -> None:
    raw, producer = pair()
    producer.submit(bytes(6))
    raw.answer(2)
    alarm(producer, "command 2, completed in the slot at offset 128, is not outstanding")


def test_double_completion() -> None:
    raw, producer = pair()
    producer.submit(bytes(6))
    producer.submit(bytes(6))
    raw.answer(1)
    raw.answer(1)
    alarm(producer, "command 1, completed in the slot at offset 248, is not outstanding")


def test_completion_of_a_kept_command() -> None:
    raw, producer = pair()
    producer.submit(bytes(6))
    producer.submit(bytes(6))
    raw.answer(1, uflags=KEEP_BUFFER)
    raw.answer(1)
    alarm(producer, "command 1, completed in the slot at offset 248, is not outstanding")


def test_out_of_order_without_the_capability() -> None:
    raw, producer = pair(flags=0xE)
    producer.submit(bytes(6))
    producer.submit(bytes(6))
    raw.answer(2)
    alarm(producer, "command 2 completed in the slot at offset 128 of command 1")


def test_broken_ring() -> None:
    raw, producer = pair(data=4096)
    outstanding = producer.submit(READ_10, data_in_length=4096)
    answered = producer.submit(bytes(6))
    waits = producer.submit(READ_10, data_in_length=4096)
    raw.answer(2)
    raw.answer(9)
    alarm(producer, "command 9,")
    alarm(producer, "command 9,")
    refused = producer.submit(bytes(6))
    assert (refused.status, refused.sense) == (CHECK_CONDITION, NOT_READY)
    head = raw.head
    assert producer.task_management(TmrType.LUN_RESET, []) == [answered]  # answered before: is not lost
    assert raw.head == head
    assert producer.block() == [waits]
    assert producer.reset() == [outstanding]
    producer.unblock()
    assert producer.submit(bytes(6)).id == 1
    assert producer.reap() == []


def test_head_changed_before_a_submission() -> None:
    raw, producer = pair()
    raw.head = 8
    with pytest.raises(ProducerAlarm, match="head 0 in the mailbox was changed to 8"):
        producer.submit(READ_10, data_in_length=4096)
    assert producer.outstanding == 0
    producer.reset()
    producer.submit(READ_10, data_in_length=65536)
    assert len(raw.entries()) == 1


# Entries of a later kernel


def raw_entry(opcode: int, length: int, actual: int | None = None) -> bytes:
    raw = Raw()
    at = raw.entry(opcode, length)
    return bytes(raw.bytes[at : at + (length if actual is None else actual)])


def test_injected_entry() -> None:
    raw, producer = pair()
    producer.submit(bytes(6))
    assert producer.inject(raw_entry(5, 64)) == []
    assert producer.event_due()
    assert raw.entries()[1] == (248, 5, 0, 64)
    raw.answer(1)
    raw.bytes[248 + 7] = UNKNOWN_OP
    raw.step()
    assert len(producer.reap()) == 1


def test_nothing_overtakes_an_entry_that_waits() -> None:
    raw, producer = pair(size=512)
    for _ in range(3):
        producer.submit(bytes(6))
    producer.inject(raw_entry(5, 200))
    late = producer.submit(bytes(6))  # would fit into the 152 bytes left
    last = producer.submit(bytes(6))
    producer.task_management(TmrType.LUN_RESET, [last])
    assert [entry[1] for entry in raw.entries()] == [1, 1, 1]
    for id_ in (1, 2, 3):
        assert (late.id, producer.queued) == (0, 1)
        raw.answer(id_)
        producer.reap()
    assert late.id == 1
    assert [entry[1] for entry in raw.entries()] == [0, 5, 2, 1]


def test_injected_entry_must_be_flagged() -> None:
    raw, producer = pair()
    producer.inject(raw_entry(3, 8))
    raw.step()
    alarm(producer, "opcode 3 of the slot at offset 128 is not flagged as unknown")


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\3",
        raw_entry(0, 8),
        raw_entry(1, 120),
        raw_entry(3, 16, 8),
        raw_entry(3, 8, 16),
        raw_entry(3, 2000),
    ],
)
def test_not_to_be_injected(entry: bytes) -> None:
    _, producer = pair()
    with pytest.raises(ValueError, match="not an entry that can be injected"):
        producer.inject(entry)


# The area


def test_release_lets_a_mapping_be_closed() -> None:
    area = mmap.mmap(-1, 65536)
    view = memoryview(area)
    producer = Producer(view, 4096)
    producer.submit(WRITE_10, b"data", 16)
    with pytest.raises(BufferError):
        area.close()
    producer.release()
    view.release()
    area.close()
