"""The kernel's side of the ring, as drivers/target/target_core_user.c plays it.

The embedded mode runs it instead of the kernel; tests, fuzzers and benchmarks run it against the consumer. It
is strict: what would break the ring in the kernel, or hang the kernel, raises ProducerAlarm. It also has the
kernel's inconvenient behaviour: blocks come with the stale bytes of earlier commands, and `outstanding` says
how long a command keeps its id and its blocks.

A command ends when its Ticket has a status. Each method returns the tickets that it ended (`submit` its own).
After any call, `event_due` returns whether to wake the consumer.

Threads: one at a time, as the kernel does under its lock. Nothing here blocks, or knows the time.
"""

from collections import deque
from collections.abc import Iterable
from sys import byteorder

from tcmu_runner.ring.entry import tmr_entry
from tcmu_runner.ring.layout import (
    ALL_FLAGS,
    CMD,
    CMD_LENGTH,
    HEADER_LENGTH,
    LP64,
    MAILBOX,
    MAILBOX_LENGTH,
    OPCODE_MASK,
    PAD,
    TMR,
    UFLAGS,
    UNKNOWN_OP,
    VERSION,
    Layout,
    MailboxFlag,
    cdb_length,
)
from tcmu_runner.ring.outstanding import NO_DATA, Outstanding, PlacementRefused
from tcmu_runner.ring.ticket import (
    BUSY,
    COMMUNICATION_FAILURE,
    TASK_ABORTED,
    TASK_SET_FULL,
    Ticket,
)
from tcmu_runner.ring.writer import ProducerAlarm, RingWriter

__all__ = ["Producer", "ProducerAlarm", "Ticket"]


class Producer:
    """A ring in `area`, which is formatted here: mailbox and ring in the first `ring_size` bytes, then data.

    `area` is writable. `ring_size` is a multiple of 128 as in every kernel, and should be one of the page
    size: O_DIRECT needs aligned blocks. `flags` is what this kernel can do. Raises ValueError for sizes that
    cannot be.
    """

    def __init__(
        self,
        area: memoryview,
        ring_size: int,
        flags: MailboxFlag = ALL_FLAGS,
        block_size: int = 4096,
        layout: Layout = LP64,
    ) -> None:
        size = ring_size - MAILBOX_LENGTH
        if ring_size % 128 or size < 2 * CMD_LENGTH or ring_size > len(area) or block_size < 1:
            raise ValueError(f"ring of {ring_size} bytes and blocks of {block_size} in {len(area)} bytes")
        self._area = area.cast("B")
        self._area[:MAILBOX_LENGTH] = bytes(MAILBOX_LENGTH)
        MAILBOX.pack_into(self._area, 0, VERSION, flags, MAILBOX_LENGTH, size, 0)
        self._ring = RingWriter(self._area, size)
        self._flags = flags
        self._outstanding = Outstanding(
            self._area, self._ring, ring_size, block_size=block_size, layout=layout, flags=flags
        )
        self._entries: deque[bytes] = deque()  # waiting for room: TMRs, which commands must not overtake
        self._waiting: deque[Ticket] = deque()
        self._ended: list[Ticket] = []  # not yet returned
        self._blocked = False

    @property
    def outstanding(self) -> int:
        """How many ids are in use: commands on the ring, also those that expired, and kept buffers."""
        return len(self._outstanding)

    @property
    def queued(self) -> int:
        """How many commands wait for room on the ring or in the data area."""
        return len(self._waiting)

    @property
    def blocked(self) -> bool:
        """Whether new commands are refused."""
        return self._blocked

    def ticket(self, id_: int) -> Ticket | None:
        """The command with this id, on the ring or with a kept buffer; None without one."""
        return self._outstanding.get(id_)

    def tickets(self) -> list[Ticket]:
        """The commands without an answer, those that wait for room among them."""
        return [each for each in (*self._outstanding, *self._waiting) if each.status is None]

    def event_due(self) -> bool:
        """Whether anything was put on the ring since the last call: then wake the consumer."""
        due, self._ring.posted = self._ring.posted, False
        return due

    def submit(
        self, cdb: bytes, data_out: bytes | bytearray | memoryview = b"", data_in_length: int = 0
    ) -> Ticket:
        """Puts a command on the ring, or in the queue for it (first come, first served).

        The CDB is cut to the length that its opcode demands. Both Data-Out and Data-In: bidirectional.
        The data is copied, at once or when the command leaves the queue: leave it alone while `id` is 0.
        The ticket returned has a status if the command was refused.
        """
        length = cdb_length(cdb)
        if len(cdb) < length:
            raise ValueError(f"CDB of {len(cdb)} bytes, {length} expected: {cdb.hex()}")
        out = memoryview(data_out).cast("B") if data_out else NO_DATA
        ticket = Ticket(cdb[:length], out, data_in_length)
        self.post(ticket)
        return ticket

    def post(self, ticket: Ticket) -> None:
        """`submit` for a ticket that the caller has made, with a CDB of the right length."""
        if self._blocked:
            ticket.end(BUSY)
        elif self._ring.broken:
            ticket.end(*COMMUNICATION_FAILURE)
        else:
            try:
                if self._entries or self._waiting or not self._outstanding.place(ticket):
                    self._waiting.append(ticket)
            except PlacementRefused as refused:
                ticket.end(*refused.args)

    def inject(self, entry: bytes) -> list[Ticket]:
        """Post an entry as it is, ahead of the commands that wait: what a kernel of the future may send.

        The consumer has to flag and skip an opcode that it does not know. Raises ValueError for PAD and CMD,
        for more than half a ring, and unless the length in the header is that of the entry.
        """
        len_op = int.from_bytes(entry[:4], byteorder)
        opcode = len_op & OPCODE_MASK
        length = len(entry)
        if not HEADER_LENGTH <= length == len_op - opcode <= self._ring.size // 2 or opcode in (PAD, CMD):
            raise ValueError(f"not an entry that can be injected: {entry.hex()}")
        self._entries.append(entry)
        return self._advance()

    def task_management(self, type_: int, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Aborts commands: those in the queue end here; for those on the ring the consumer gets an entry.

        Answer the initiator once all the tickets have a status, whichever.
        """
        ids = []
        for ticket in tickets:
            if ticket.status is None and ticket.id:
                ids.append(ticket.id)
            elif ticket.status is None:
                self._waiting.remove(ticket)
                self._end(ticket, TASK_ABORTED)
        if self._flags & MailboxFlag.TMR:
            self._entries.append(tmr_entry(type_, ids))
        return self._advance()

    def expire(self, ticket: Ticket) -> bool:
        """Ends a command at its time limit (cmd_time_out, qfull_time_out). False if it was answered before.

        On the ring, it keeps id and blocks until the consumer completes it.
        """
        if ticket.status is not None:
            return False
        if ticket.id:
            ticket.end(*COMMUNICATION_FAILURE)
        else:
            self._waiting.remove(ticket)
            ticket.end(TASK_SET_FULL)
        return True

    def reap(self) -> list[Ticket]:
        """The doorbell: process the completions up to the tail, then put on the ring what waits for room.

        Raises ProducerAlarm, then and ever after until `reset`.
        """
        self._process()
        return self._advance()

    def block(self) -> list[Ticket]:
        """action/block_dev = 1: process completions; what waits, and what comes, is answered with BUSY."""
        self._blocked = True
        if not self._ring.broken:
            self._process()
        while self._waiting:
            self._end(self._waiting.popleft(), BUSY)
        return self._advance()

    def unblock(self) -> None:
        """action/block_dev = 0."""
        self._blocked = False

    def reset(self, level: int = 1) -> list[Ticket]:
        """action/reset_ring = level: forget the ring, its completions and its data.

        Commands on the ring end with BUSY (level 1: the initiator tries again) or an error (level 2). Block
        first, else commands that wait are put on the new ring at once.
        """
        if level not in (1, 2):
            raise ValueError(f"level {level} of reset_ring, 1 or 2 expected")
        for ticket in self._outstanding:
            if ticket.status is None:
                self._end(ticket, *((BUSY,) if level == 1 else COMMUNICATION_FAILURE))
        self._outstanding.forget()
        self._entries.clear()
        self._ring.reset()
        return self._advance()

    def free_kept(self, id_: int) -> list[Ticket]:
        """action/free_kept_buf. Raises ValueError (the kernel: EINVAL) unless the id's buffer is kept."""
        ticket = self.ticket(id_)
        if ticket is None or not ticket.kept:
            raise ValueError(f"no buffer is kept for command {id_}")
        self._outstanding.free(ticket)
        return self._advance()

    def close(self) -> list[Ticket]:
        """The consumer has closed the device: free what it kept. The ring goes on without it."""
        for ticket in self._outstanding:
            if ticket.kept:
                self._outstanding.free(ticket)
        return self._advance()

    def release(self) -> None:
        """Let go of the area, so that its mapping can be closed."""
        self._ring.release()
        self._area.release()

    def _end(self, ticket: Ticket, status: int, sense: bytes = b"") -> None:
        ticket.end(status, sense)
        self._ended.append(ticket)

    def _advance(self) -> list[Ticket]:
        """Put on the ring what waits, as far as there is room. Returns all tickets ended by now."""
        if not self._ring.broken:
            self._post_entries()
            self._post_waiting()
        ended, self._ended = self._ended, []
        return ended

    def _post_entries(self) -> None:
        while self._entries and self._ring.has_room(len(self._entries[0])):
            entry = self._entries.popleft()
            self._ring.place(len(entry))
            self._ring.append(entry)

    def _post_waiting(self) -> None:
        while self._waiting and not self._entries:
            try:
                if not self._outstanding.place(self._waiting[0]):
                    break
                self._waiting.popleft()
            except PlacementRefused:
                self._end(self._waiting.popleft(), *COMMUNICATION_FAILURE)

    def _process(self) -> None:
        """Go through the slots that the consumer has completed."""
        for at, opcode, id_ in self._ring.completed():
            if opcode == CMD:
                if (ticket := self._outstanding.complete(at, id_)) is not None:
                    self._ended.append(ticket)
            elif opcode not in (PAD, TMR) and not self._area[at + UFLAGS] & UNKNOWN_OP:
                self._ring.alarm(f"opcode {opcode} of the slot at offset {at} is not flagged as unknown")
