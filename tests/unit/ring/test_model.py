"""Consumer against producer: whatever happens, each command gets its own data and exactly one answer.

The rings are tiny, so that they wrap, fill up, and make commands wait all the time; the blocks too.
"""

from sys import byteorder

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tcmu_runner.ring import (
    ARM32,
    I386,
    LP64,
    Consumer,
    MailboxFlag,
    Producer,
    Request,
    TaskManagement,
    Ticket,
)
from tcmu_runner.ring.consumer import RingReset

BLOCK = 64
BLOCKS = 12
CDBS = [
    bytes(6),
    b"\x28" + bytes(9),
    b"\xa8" + bytes(11),
    b"\x88" + bytes(15),
    b"\x7f" + bytes(6) + b"\x18" + bytes(24),
]
# SAM-5 5.3.1
CHECK_CONDITION, BUSY, TASK_SET_FULL, TASK_ABORTED = 0x02, 0x08, 0x28, 0x40
ENDED_BY_THE_KERNEL = {CHECK_CONDITION, BUSY, TASK_SET_FULL, TASK_ABORTED}


def pattern(seed: int, length: int) -> bytes:
    return bytes((seed * 7 + at) % 256 for at in range(length))


class Conversation(RuleBasedStateMachine):
    @initialize(
        ring_size=st.sampled_from([512, 640, 1024, 2048]),
        flags=st.sampled_from([0xF, 0xF, 0xF, 0x6, 0x0]),
        layout=st.sampled_from([LP64, LP64, I386, ARM32]),
    )
    def start(self, ring_size: int, flags: int, layout: object) -> None:
        self.area = bytearray(ring_size + BLOCK * BLOCKS)
        assert layout is LP64 or layout is I386 or layout is ARM32
        self.producer = Producer(memoryview(self.area), ring_size, MailboxFlag(flags), BLOCK, layout)
        self.consumer = Consumer(memoryview(self.area), layout)
        self.count = 0
        self.data: dict[Ticket, bytes] = {}  # the Data-Out of each command
        self.open: dict[Ticket, None] = {}  # without an answer, in order
        self.fetched: dict[int, Request] = {}
        self.seen: set[int] = set()  # ids
        self.due: dict[Ticket, tuple[int, bytes, bytes]] = {}  # the answers that we gave: status, sense, data
        self.kept: list[int] = []
        self.keeps = bool(flags & MailboxFlag.KEEP_BUFFER)
        self.shortens = bool(flags & MailboxFlag.READ_LEN)

    def ended(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.open.pop(ticket)  # KeyError: answered twice
            answer = ticket.status, ticket.sense, ticket.data
            if ticket in self.due:
                assert answer == self.due.pop(ticket)
            else:
                assert ticket.status in ENDED_BY_THE_KERNEL
                assert ticket.data == b""

    @rule(
        cdb=st.sampled_from(CDBS),
        out=st.sampled_from([0, 0, 1, BLOCK, 3 * BLOCK + 5]),
        in_=st.sampled_from([0, 0, 2, BLOCK, 2 * BLOCK + 7, 13 * BLOCK]),
    )
    def submit(self, cdb: bytes, out: int, in_: int) -> None:
        self.count += 1
        data = pattern(self.count, out)
        ticket = self.producer.submit(cdb, data, in_)
        self.data[ticket] = data
        self.open[ticket] = None
        if ticket.status is not None:
            self.ended([ticket])

    @rule()
    def fetch(self) -> None:
        due = self.producer.event_due()
        assert due or not self.consumer.pending()
        for item in self.consumer.fetch():
            if isinstance(item, TaskManagement):
                assert self.seen.issuperset(item.ids)  # it comes behind its commands
                continue
            ticket = self.producer.ticket(item.id)
            assert ticket is not None
            assert item.id not in self.fetched
            assert item.cdb == ticket.cdb
            out = self.data[ticket]
            buffer, data_in = (item.data, item.data_in) if out else ([], item.data)
            assert b"".join(buffer) == out
            assert sum(len(part) for part in data_in) == ticket.data_in_length
            self.fetched[item.id] = item
            self.seen.add(item.id)

    @precondition(lambda self: self.fetched)
    @rule(
        pick=st.integers(0, 1000),
        status=st.sampled_from([0, 0, 0, 0x02, 0x18]),
        read_len=st.sampled_from([0, 0, 1, 70, 1000]),
        keep=st.booleans(),
    )
    def complete(self, pick: int, status: int, read_len: int, keep: bool) -> None:
        id_ = sorted(self.fetched)[pick % len(self.fetched)]
        request = self.fetched.pop(id_)
        ticket = self.producer.ticket(id_)
        assert ticket is not None
        out = self.data[ticket]
        self.count += 1
        data = pattern(self.count, ticket.data_in_length)
        rest = data
        for part in request.data_in if out else request.data:
            part[:], rest = rest[: len(part)], rest[len(part) :]
        sense = pattern(self.count, 18) if status == CHECK_CONDITION else b""
        keep = keep and self.keeps
        self.consumer.complete(id_, status, sense, read_len, keep_buffer=keep)
        if ticket.status is None:
            short = read_len if self.shortens and not out else 0
            if status not in (0, CHECK_CONDITION) or (status == CHECK_CONDITION and not short):
                data = b""
            self.due[ticket] = status, sense.ljust(96, b"\0") if sense else b"", data[: short or None]
        if keep:
            self.kept.append(id_)

    @rule()
    def doorbell(self) -> None:
        self.consumer.publish()
        self.ended(self.producer.reap())

    @rule()
    def doorbell_without_news(self) -> None:
        self.ended(self.producer.reap())

    @rule(type_=st.sampled_from([1, 5, 128]), pick=st.integers(0, 3))
    def task_management(self, type_: int, pick: int) -> None:
        tickets = list(self.open)
        self.ended(self.producer.task_management(type_, tickets[:pick] if pick else tickets))

    @rule(opcode=st.integers(3, 7), length=st.sampled_from([8, 64, 128]))
    def unknown_opcode(self, opcode: int, length: int) -> None:
        header = (length | opcode).to_bytes(4, byteorder)
        self.ended(self.producer.inject(header.ljust(length, b"\0")))

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 1000))
    def expire(self, pick: int) -> None:
        ticket = list(self.open)[pick % len(self.open)]
        self.due.pop(ticket, None)
        assert self.producer.expire(ticket)
        self.ended([ticket])

    @precondition(lambda self: self.kept)
    @rule()
    def free_kept(self) -> None:
        self.consumer.publish()
        self.ended(self.producer.reap())
        self.ended(self.producer.free_kept(self.kept.pop()))

    @rule()
    def close(self) -> None:
        self.consumer.publish()
        self.ended(self.producer.reap())
        self.ended(self.producer.close())
        self.kept.clear()

    @rule()
    def block_and_unblock(self) -> None:
        self.consumer.publish()
        self.ended(self.producer.block())
        assert self.producer.submit(bytes(6)).status == BUSY
        self.producer.unblock()

    @rule(level=st.sampled_from([1, 2]), late=st.booleans())
    def reset(self, level: int, late: bool) -> None:
        moved = self.consumer.publish()
        self.due.clear()
        self.fetched.clear()
        self.seen.clear()
        self.kept.clear()
        tail = self.tail
        self.ended(self.producer.reset(level))
        if late and tail:
            try:
                self.consumer.publish()
            except RingReset:
                pass
            else:
                raise AssertionError(f"the reset was not noticed, {moved}")
        self.consumer.reset()

    @property
    def tail(self) -> int:
        return int.from_bytes(self.area[64:68], byteorder)

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "consumer"):
            return
        assert self.consumer.outstanding == len(self.fetched)
        if self.consumer.idle:
            assert not self.fetched

    def teardown(self) -> None:
        """In the end, everything gets its answer."""
        if not hasattr(self, "consumer"):
            return
        self.close()
        for _ in range(1000):
            self.fetch()
            while self.fetched:
                self.complete(0, 0, 0, keep=False)
            self.doorbell()
            if not self.open and self.consumer.idle:
                break
        assert self.consumer.idle
        assert not self.open
        assert self.producer.outstanding == 0
        assert self.producer.queued == 0
        assert not self.due


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
