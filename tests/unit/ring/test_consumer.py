"""Our side against a ring written by hand: include/uapi/linux/target_core_user.h."""

import mmap
import queue
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tcmu_runner.ring import Consumer, MailboxFlag, Producer, Request, RingCorrupt, RingReset, TaskManagement

from .raw import Raw

READ_10 = bytes.fromhex("28 00 00 00 00 08 00 00 01 00")
SENSE = bytes.fromhex("70 00 03 00 00 00 00 0a 00 00 00 00 11 00 00 00 00 00")


def ids(found: list[Request | TaskManagement]) -> list[int]:
    return [item.id for item in found if isinstance(item, Request)]


def slot(raw: Raw, at: int) -> tuple[int, int, int, int]:
    """cmd_id, uflags, scsi_status and read_len in the slot."""
    return raw.get(at + 4, "H"), raw.bytes[at + 7], raw.bytes[at + 8], raw.get(at + 12, "I")


# The mailbox


def test_mailbox_flags() -> None:
    assert Consumer(Raw(flags=0x5).area).flags == MailboxFlag.OUT_OF_ORDER | MailboxFlag.TMR
    assert Consumer(Raw(flags=0x10).area).flags == 0x10  # of a later kernel


@pytest.mark.parametrize("version", [0, 1, 3])
def test_version(version: int) -> None:
    raw = Raw()
    raw.put(0, "H", version)
    with pytest.raises(RingCorrupt, match=f"mailbox version {version} at offset 0"):
        Consumer(raw.area)


@pytest.mark.parametrize(
    ("cmdr_off", "cmdr_size"),
    [(64, 3968), (132, 3968), (128, 3964), (128, 0), (128, 69632 + 8), (2**32 - 8, 2**32 - 8)],
)
def test_ring_outside_the_area(cmdr_off: int, cmdr_size: int) -> None:
    raw = Raw()
    raw.put(4, "II", cmdr_off, cmdr_size)
    with pytest.raises(
        RingCorrupt, match=f"ring of {cmdr_size} bytes at offset {cmdr_off} in an area of 69632"
    ):
        Consumer(raw.area)


def test_area_too_short() -> None:
    with pytest.raises(RingCorrupt, match="the area is too short for a mailbox: 127 bytes"):
        Consumer(memoryview(bytearray(127)))


@pytest.mark.parametrize("tail", [4, 3968, 2**32 - 8])
def test_tail_outside_the_ring(tail: int) -> None:
    raw = Raw()
    raw.tail = tail
    with pytest.raises(RingCorrupt, match=f"tail {tail} in the mailbox"):
        Consumer(raw.area)


@pytest.mark.parametrize("head", [4, 3968, 2**32 - 8])
def test_head_outside_the_ring(head: int) -> None:
    raw = Raw()
    raw.head = head
    consumer = Consumer(raw.area)
    assert consumer.pending()
    with pytest.raises(RingCorrupt, match=f"head {head} in the mailbox"):
        consumer.fetch()


# Fetching


def test_nothing_to_fetch() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    assert not consumer.pending()
    assert consumer.fetch() == []
    assert consumer.idle
    assert not consumer.publish()


def test_fetch_drains_to_the_head() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    for id_ in (3, 1, 2):
        raw.command(id_)
    assert consumer.pending()
    assert ids(consumer.fetch()) == [3, 1, 2]
    assert not consumer.pending()
    assert consumer.fetch() == []
    assert consumer.outstanding == 3


def test_starts_at_the_tail() -> None:
    raw = Raw()
    for id_ in (1, 2):
        raw.command(id_)
    raw.tail = 120
    assert ids(Consumer(raw.area).fetch()) == [2]


def test_what_was_fetched_survives_completions() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1, READ_10, [(0, 512)])
    raw.command(2, READ_10[::-1].replace(b"\0\x01", b"\x2a\x01"), [(4096, 512), (12288, 1024)])
    first, second = consumer.fetch()
    assert isinstance(second, Request)
    cdb = second.cdb
    consumer.complete(2, 2, b"\xff" * 96)
    consumer.complete(1, 2, b"\xff" * 96)
    assert isinstance(first, Request)
    assert first.cdb == READ_10
    assert second.cdb == cdb
    assert [len(part) for part in second.data] == [512, 1024]


def test_data_is_not_copied() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1, READ_10, [(8192, 4)])
    request = consumer.fetch()[0]
    assert isinstance(request, Request)
    request.data[0][:] = b"data"
    assert raw.bytes[raw.data + 8192 :][:4] == b"data"


def test_padding_at_the_end_and_wrap() -> None:
    raw = Raw(size=512)
    consumer = Consumer(raw.area)
    for id_ in (1, 2, 3):
        raw.command(id_, bytes(16))  # 128 bytes each
    assert ids(consumer.fetch()) == [1, 2, 3]
    for id_ in (1, 2, 3):
        consumer.complete(id_)
    assert consumer.publish()
    assert raw.tail == 384
    raw.entry(0, 128)
    at = raw.command(4)
    assert at == 128
    assert raw.head == 120
    assert ids(consumer.fetch()) == [4]
    assert consumer.publish()  # over the padding
    assert raw.tail == 0
    consumer.complete(4)
    assert consumer.publish()
    assert raw.tail == 120
    assert consumer.idle


def test_entry_that_ends_with_the_ring() -> None:
    raw = Raw(size=256)
    consumer = Consumer(raw.area)
    raw.command(1, bytes(16))
    assert ids(consumer.fetch()) == [1]
    consumer.complete(1)
    consumer.publish()
    raw.command(2, bytes(16))
    assert raw.head == 0
    assert ids(consumer.fetch()) == [2]
    consumer.complete(2)
    assert consumer.publish()
    assert raw.tail == 0


def test_padding_of_8_bytes_reads_nothing_behind_the_ring() -> None:
    """Pages of the data area exist only for commands: touching another raises SIGBUS."""
    raw = Raw(size=128, data=0)
    raw.head = raw.tail = 120
    raw.entry(0, 8)
    consumer = Consumer(raw.area)
    assert consumer.fetch() == []
    assert consumer.publish()
    assert raw.tail == 0


def test_task_management_is_in_order_and_stepped_over() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    raw.task_management(5, [1])
    raw.command(2)
    raw.task_management(1, [])
    first, task, second, last = consumer.fetch()
    assert isinstance(task, TaskManagement)
    assert isinstance(last, TaskManagement)
    assert (task.type, task.ids) == (5, [1])
    assert (last.type, last.ids) == (1, [])
    assert ids([first, second]) == [1, 2]
    consumer.complete(2)
    assert consumer.publish()
    assert raw.tail == 120 + 40  # the task management entry behind the slot is nobody's to complete
    consumer.complete(1)
    assert consumer.publish()
    assert raw.tail == raw.head
    assert consumer.idle


@pytest.mark.parametrize("opcode", [3, 7])
def test_unknown_opcode_is_flagged_and_skipped(opcode: int) -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    first = raw.entry(opcode, 8)
    raw.command(1)
    last = raw.entry(opcode, 64)
    raw.bytes[last + 7] = 0x80
    assert ids(consumer.fetch()) == [1]
    assert raw.bytes[first + 7] == 0
    consumer.complete(1)
    consumer.publish()
    assert raw.bytes[first + 7] == 0x01
    assert raw.bytes[last + 7] == 0x81
    assert consumer.idle


# Corruption: nothing is taken, nothing is written


def entry(op: int, length: int) -> Callable[[Raw], None]:
    def damage(raw: Raw) -> None:
        raw.put(128 + 120, "I", length | op)

    return damage


def duplicate(raw: Raw) -> None:
    raw.put(128 + 120 + 4, "H", 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (entry(0, 0), "entry of 0 bytes at offset 248, 120 at most"),
        (entry(7, 0), "entry of 0 bytes at offset 248"),
        (entry(0, 128), "entry of 128 bytes at offset 248, 120 at most"),
        (entry(1, 2**32 - 8), "entry of 4294967288 bytes at offset 248"),
        (entry(1, 64), "command entry of 64 bytes at offset 248"),
        (entry(2, 24), "task management entry of 24 bytes"),
        (duplicate, "id 1 of an outstanding command at offset 248"),
    ],
)
def test_corrupt(damage: Callable[[Raw], None], message: str) -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    raw.command(2)
    damage(raw)
    before = bytes(raw.bytes)
    for _ in range(2):
        with pytest.raises(RingCorrupt, match=message):
            consumer.fetch()
        assert consumer.outstanding == 0
        assert not consumer.publish()
        assert raw.bytes == before


def test_entry_straddles_the_end() -> None:
    raw = Raw(size=256)
    raw.head = raw.tail = 248
    raw.entry(1, 8)
    raw.put(128 + 248, "I", 120 | 1)
    raw.head = 112
    with pytest.raises(RingCorrupt, match="entry of 120 bytes at offset 376, 8 at most"):
        Consumer(raw.area).fetch()


def test_entry_behind_the_wrap_exceeds_the_head() -> None:
    raw = Raw(size=256)
    raw.head = raw.tail = 128
    raw.command(1, bytes(16))
    raw.command(2)
    raw.head = 112
    with pytest.raises(RingCorrupt, match="entry of 120 bytes at offset 128, 112 at most"):
        Consumer(raw.area).fetch()


def test_id_of_an_outstanding_command() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    consumer.fetch()
    raw.command(1)
    with pytest.raises(RingCorrupt, match="id 1 of an outstanding command at offset 248"):
        consumer.fetch()


# Completing


def test_good() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    at = raw.command(5, READ_10, [(0, 512)])
    before = bytes(raw.bytes)
    consumer.fetch()
    consumer.complete(5)
    assert slot(raw, at) == (5, 0, 0, 0)
    assert raw.bytes[at : at + 4] == before[at : at + 4]  # len_op
    assert raw.bytes[at + 16 :] == before[at + 16 :]
    assert raw.tail == 0
    assert not consumer.idle
    assert consumer.publish()
    assert raw.tail == 128
    assert not consumer.publish()
    assert consumer.idle
    assert raw.bytes[12:16] == before[12:16]  # head


def test_check_condition_has_all_of_the_sense() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    at = raw.command(5, b"\xff" * 10, [(0, 512), (4096, 512), (12288, 512), (20480, 512)])
    consumer.fetch()
    consumer.complete(5, 2, SENSE)
    assert slot(raw, at) == (5, 0, 2, 0)
    assert raw.bytes[at + 16 : at + 112] == SENSE + bytes(78)
    assert raw.bytes[at + 112 : at + 122] == b"\xff" * 10


def test_sense_of_96_bytes_and_not_one_more() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    at = raw.command(5)
    consumer.fetch()
    with pytest.raises(ValueError, match="97 bytes of sense"):
        consumer.complete(5, 2, bytes(97))
    consumer.complete(5, 2, b"\x72" * 96)
    assert raw.bytes[at + 16 : at + 112] == b"\x72" * 96


def test_uflags_are_written_fresh() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    at = raw.command(1)
    raw.bytes[at + 7] = 0xFF
    consumer.fetch()
    consumer.complete(1, 8)
    assert slot(raw, at) == (1, 0, 8, 0)


def test_read_len() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    places = [raw.command(id_) for id_ in (1, 2)]
    consumer.fetch()
    consumer.complete(1, read_len=36)
    consumer.complete(2, 2, SENSE, 512)
    assert slot(raw, places[0]) == (1, 0x2, 0, 36)
    assert slot(raw, places[1]) == (2, 0x2, 2, 512)


def test_read_len_without_the_capability() -> None:
    raw = Raw(flags=0xD)
    consumer = Consumer(raw.area)
    at = raw.command(1)
    consumer.fetch()
    consumer.complete(1, read_len=36)
    assert raw.bytes[at + 7] == 0


def test_keep_buffer() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    at = raw.command(1)
    consumer.fetch()
    consumer.complete(1, keep_buffer=True, read_len=8)
    assert slot(raw, at) == (1, 0x6, 0, 8)
    assert consumer.outstanding == 0


def test_keep_buffer_without_the_capability() -> None:
    raw = Raw(flags=0x7)
    consumer = Consumer(raw.area)
    raw.command(1)
    consumer.fetch()
    with pytest.raises(ValueError, match="a kernel that keeps no buffers"):
        consumer.complete(1, keep_buffer=True)
    assert consumer.outstanding == 1


def test_out_of_order() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    places = [raw.command(id_, bytes(16) if id_ == 2 else bytes(6)) for id_ in (1, 2, 3)]
    consumer.fetch()
    consumer.complete(3, 0x18)
    assert consumer.publish()
    assert raw.tail == 120
    consumer.complete(1, 0x08)
    assert consumer.publish()
    assert raw.tail == 248
    consumer.complete(2, 0x28)
    assert consumer.publish()
    assert raw.tail == 368
    assert [slot(raw, at) for at in places] == [(3, 0, 0x18, 0), (1, 0, 0x08, 0), (2, 0, 0x28, 0)]


def test_id_is_reused_after_its_completion() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    for _ in range(2):
        raw.command(1)
        assert ids(consumer.fetch()) == [1]
        consumer.complete(1)
        consumer.publish()
    assert consumer.idle


@pytest.mark.parametrize("id_", [0, 1, 3, 65536])
def test_completion_of_what_is_not_outstanding(id_: int) -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    raw.command(2)
    consumer.fetch()
    consumer.complete(1)
    before = bytes(raw.bytes)
    with pytest.raises(ValueError, match=f"command {id_} is not outstanding"):
        consumer.complete(id_)
    assert raw.bytes == before
    assert consumer.outstanding == 1


def test_good_completions_of_many_are_those_of_each() -> None:
    alone, together = Raw(), Raw()
    for raw in (alone, together):
        raw.command(1)
        raw.task_management(5, [1])
        raw.command(2, bytes(16))
        raw.entry(7, 16)  # an opcode that nobody knows
        raw.command(3)
    one, many = Consumer(alone.area), Consumer(together.area)
    requests = {request.id: request for request in many.fetch() if isinstance(request, Request)}
    assert ids(one.fetch()) == list(requests)
    for id_ in (3, 1):
        one.complete(id_)
    many.complete_well([requests[3], requests[1]])
    assert one.publish()
    assert many.publish()
    assert alone.bytes == together.bytes
    with pytest.raises(ValueError, match="command 3 is not outstanding"):
        many.complete_well([requests[3]])
    assert alone.bytes == together.bytes


def test_good_completions_of_many_wait_for_their_turn_where_the_kernel_wants_order() -> None:
    raw = Raw(flags=0)
    consumer = Consumer(raw.area)
    for id_ in (1, 2, 3):
        raw.command(id_)
    first, second, third = [request for request in consumer.fetch() if isinstance(request, Request)]
    consumer.complete_well([third, second])
    assert not consumer.publish()
    consumer.complete_well([first])
    assert consumer.publish()
    assert raw.tail == raw.head


def test_completions_wait_for_their_turn_on_a_kernel_that_wants_order() -> None:
    raw = Raw(flags=0)
    consumer = Consumer(raw.area)
    places = [raw.command(id_) for id_ in (1, 2)]
    raw.task_management(5, [1, 2])
    places.append(raw.command(3))
    consumer.fetch()
    consumer.complete(3, 2, SENSE)
    consumer.complete(2, 0x08)
    assert not consumer.publish()
    with pytest.raises(ValueError, match="command 2 is not outstanding"):
        consumer.complete(2)
    consumer.complete(1)
    assert consumer.publish()
    assert raw.tail == raw.head
    assert [slot(raw, at) for at in places] == [(1, 0, 0, 0), (2, 0, 0x08, 0), (3, 0, 2, 0)]
    assert raw.bytes[places[2] + 16 :][:18] == SENSE
    assert consumer.idle


# Resets


def test_reset() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    for id_ in (1, 2, 3):
        raw.command(id_)
    consumer.fetch()
    consumer.complete(2)
    consumer.publish()
    raw.head = raw.tail = 0
    consumer.reset()
    assert consumer.idle
    raw.command(1)
    assert ids(consumer.fetch()) == [1]
    with pytest.raises(ValueError, match="command 3 is not outstanding"):
        consumer.complete(3)
    consumer.complete(1)
    assert consumer.publish()
    assert raw.tail == 120


def test_reset_forgets_completions_ahead_of_their_turn() -> None:
    raw = Raw(flags=0)
    consumer = Consumer(raw.area)
    for id_ in (1, 2):
        raw.command(id_)
    consumer.fetch()
    consumer.complete(2)
    raw.head = 0
    consumer.reset()
    for id_ in (1, 2):
        raw.command(id_)
    consumer.fetch()
    consumer.complete(1)
    consumer.publish()
    assert raw.tail == 120


def test_reset_from_outside_is_noticed() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    for id_ in (1, 2):
        raw.command(id_)
    consumer.fetch()
    consumer.complete(1)
    consumer.publish()
    raw.head = raw.tail = 0
    assert not consumer.idle  # something still works on command 2
    raw.command(1)
    before = bytes(raw.bytes)
    with pytest.raises(RingReset, match="tail 0 in the mailbox, 120 expected"):
        consumer.fetch()
    with pytest.raises(RingReset, match="tail 0 in the mailbox, 120 expected"):
        consumer.complete(2)
    with pytest.raises(RingReset, match="tail 0 in the mailbox, 120 expected"):
        consumer.publish()
    assert raw.bytes == before
    assert consumer.outstanding == 1
    consumer.reset()
    assert ids(consumer.fetch()) == [1]


def test_reset_from_outside_before_the_first_completion() -> None:
    """The tail was 0 all the time, but a head behind our cursor tells: the kernel cannot lap us."""
    raw = Raw()
    consumer = Consumer(raw.area)
    for id_ in (1, 2):
        raw.command(id_)
    consumer.fetch()
    raw.head = 0
    raw.command(1)
    with pytest.raises(RingReset, match="head 120 in the mailbox, after entries up to 240"):
        consumer.fetch()


def test_a_reset_after_which_as_much_came_as_before() -> None:
    """The head is where we left it."""
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    consumer.fetch()
    consumer.complete(1)
    consumer.publish()
    raw.head = raw.tail = 0
    raw.command(2)
    with pytest.raises(RingReset, match="tail 0 in the mailbox, 120 expected"):
        consumer.fetch()


def test_good_completions_of_many_notice_a_reset() -> None:
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    raw.command(2)
    requests = [request for request in consumer.fetch() if isinstance(request, Request)]
    consumer.complete(1)
    consumer.publish()
    raw.head = raw.tail = 0
    before = bytes(raw.bytes)
    with pytest.raises(RingReset, match="tail 0 in the mailbox, 120 expected"):
        consumer.complete_well(requests[1:])
    assert raw.bytes == before


def test_a_publication_at_the_same_time_is_no_reset() -> None:
    """`fetch` may run in another thread, between the store of the tail and the note that it was stored."""
    raw = Raw()
    consumer = Consumer(raw.area)
    raw.command(1)
    consumer.fetch()
    consumer.complete(1)
    raw.command(2)
    consumer._publishing = raw.tail = 120
    assert ids(consumer.fetch()) == [2]


def test_publications_while_we_look_are_no_reset() -> None:
    class Racing(Consumer):
        """A consumer whose other thread publishes twice while `fetch` compares."""

        seen: list[int]

        @property
        def _published(self) -> int:
            return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]

        @_published.setter
        def _published(self, value: int) -> None:
            self.seen = [value]

    raw = Raw()
    consumer = Racing(raw.area)
    for id_ in (1, 2):
        raw.command(id_)
    consumer.fetch()
    raw.command(3)
    raw.tail, consumer._publishing = 120, 240  # the first publication is done, the second under way
    # What `fetch` compares twice, what the look at the head begins with, and what it finds then.
    consumer.seen = [0, 0, 0, 120]
    assert ids(consumer.fetch()) == [3]


# The area


def test_release_lets_a_mapping_be_closed() -> None:
    raw = Raw()
    raw.command(1)
    area = mmap.mmap(-1, len(raw.bytes))
    area[:] = bytes(raw.bytes)
    view = memoryview(area)
    consumer = Consumer(view)
    assert ids(consumer.fetch()) == [1]
    with pytest.raises(BufferError):
        area.close()
    consumer.release()
    view.release()
    area.close()


# Threads


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads change as often as they can, not every 5 ms."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("many_switches")
def test_fetch_and_complete_in_two_threads() -> None:
    """On a ring so small that it is reused all the time; the producer, as the kernel does, takes its lock."""
    area = memoryview(bytearray(1024 + 8192))
    producer, consumer = Producer(area, 1024, block_size=512), Consumer(area)
    lock, fetched = threading.Lock(), queue.SimpleQueue[Request | None]()
    total = 2000
    answered: list[int] = []

    def complete() -> None:
        while (request := fetched.get()) is not None:
            consumer.complete(request.id, request.cdb[5])
            if consumer.publish():
                with lock:
                    answered.extend(ticket.cdb[5] == ticket.status for ticket in producer.reap())

    thread = threading.Thread(target=complete, daemon=True)
    thread.start()
    submitted = 0
    while len(answered) < total and thread.is_alive():
        while submitted < total and not producer.queued:
            with lock:
                producer.submit(bytes((0, 0, 0, 0, 0, submitted % 251 & ~2)), data_in_length=512)
            submitted += 1
        for request in consumer.fetch():
            assert isinstance(request, Request)
            fetched.put(request)
    fetched.put(None)
    thread.join()
    assert answered == [True] * total
