"""Our side of the ring: take commands out of the area, put their completions back.

Commands complete in any order. The kernel goes through the slots (the entries, once we have seen them) in
ring order, and looks up the command by the id that it finds in the slot. So a completion is always written to
the slot at the tail, whichever command that slot brought, and overwrites its request: therefore CDB and iovs
are copied out at once. Every slot is used once, every command completed once.

Threads: one thread at a time calls `fetch`, one thread at a time calls `complete` and `publish`; the two may
run at once. `pending`, `idle` and the like may be called on any thread; call `reset` and `release` while
neither runs. Nothing here blocks or locks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, Protocol, TypeVar

from tcmu_runner.ring.entry import EntryReader, Request, RingCorrupt, TaskManagement
from tcmu_runner.ring.layout import (
    ALIGNMENT,
    CHECK_CONDITION_RESPONSE,
    CMD,
    CMD_ID,
    HEAD,
    HEADER,
    HEADER_LENGTH,
    ID_SHIFT,
    KEEP_BUFFER,
    LP64,
    MAILBOX,
    MAILBOX_LENGTH,
    OPCODE_MASK,
    PAD,
    READ_LEN,
    RESPONSE,
    SENSE_LENGTH,
    TAIL,
    TMR,
    UFLAGS,
    UNKNOWN_OP,
    VERSION,
    Layout,
    MailboxFlag,
)

__all__ = ["Consumer", "Request", "RingCorrupt", "RingReset", "TaskManagement"]

T = TypeVar("T")


class Identified(Protocol):
    """id: as in the Request."""

    id: int


Make = Callable[[int, bytes, list[memoryview], Sequence[memoryview]], T]  # as Request is made

_CHECK_CONDITION = 0x02  # the one status that the ABI itself knows


class RingReset(Exception):  # noqa: N818
    """Another process has reset the ring (action/reset_ring): head or tail are not where we left them.

    The kernel has answered all outstanding commands, and may have given their buffers to others:
    stop all work on them, then call `Consumer.reset`.
    """


class Consumer:
    """The commands of one device, found in `area`: the whole mapping, writable.

    Starts at the tail in the mailbox: entries from there to the head are fetched first. The data area is not
    touched here. Users of the slices must touch nothing else of it: pages without a command raise SIGBUS.
    Raises RingCorrupt if this is not a mailbox that we understand.

    `flags` is what this kernel can do. Never complete a command of before a reset: ids are reused.
    """

    def __init__(self, area: memoryview, layout: Layout = LP64) -> None:
        self._area = area = area.cast("B")
        if len(area) < MAILBOX_LENGTH:
            raise RingCorrupt(f"the area is too short for a mailbox: {len(area)} bytes")
        version, flags, ring, size, _ = MAILBOX.unpack_from(area)
        if version != VERSION:
            raise RingCorrupt(f"mailbox version {version} at offset 0, understood is version {VERSION} only")
        if ring % ALIGNMENT or size % ALIGNMENT or not MAILBOX_LENGTH <= ring < ring + size <= len(area):
            raise RingCorrupt(f"ring of {size} bytes at offset {ring} in an area of {len(area)} bytes")
        self._ring, self._size = ring, size
        self.flags = MailboxFlag(flags)
        self._can_shorten = bool(flags & MailboxFlag.READ_LEN)
        self._words = area[: ring + size].cast("I")
        self._entries = EntryReader(area, ring + size, layout)
        # Positions in the ring: what `fetch` reads next; what was last published as the tail, what is being
        # published right now; and the slot that takes the next completion.
        self._cursor = self._published = self._publishing = self._tail = self._read_tail()
        # Slots from self._tail to self._cursor: where each ends (and so the next begins), | its opcode.
        self._slots: deque[int] = deque()
        self._outstanding: set[int] = set()
        # A kernel that wants completions in ring order (before 4.6): those which are ahead of their turn.
        self._early: dict[int, tuple[int, bytes, int, bool]] | None = (
            None if flags & MailboxFlag.OUT_OF_ORDER else {}
        )

    @property
    def outstanding(self) -> int:
        """How many commands are fetched and not completed."""
        return len(self._outstanding)

    @property
    def idle(self) -> bool:
        """Whether every command that the kernel posted is completed and published."""
        return self._words[HEAD] == self._words[TAIL] and not self._outstanding

    def pending(self) -> bool:
        """Whether there is something to fetch. Cheap, for polling."""
        return self._words[HEAD] != self._cursor

    def fetch(self) -> list[Request | TaskManagement]:
        """All that the kernel has posted since the last call, in its order.

        Raises RingCorrupt or RingReset, and then has taken nothing.
        """
        return self.fetch_as(Request)

    def fetch_as(self, make: Make[T]) -> list[T | TaskManagement]:
        """`fetch`; make: what a command becomes, of what a Request is made of."""
        words, ring, cursor, head = self._words, self._ring, self._cursor, self._words[HEAD]
        found: list[T | TaskManagement] = []
        if head == cursor:
            if words[TAIL] != self._published:  # after a reset as much may have come as there was before
                self._check_head(head)
            return found
        if not (self._published <= cursor < head < self._size and words[TAIL] == self._published) or head & 7:
            self._check_head(head)
        outstanding, ids, slots = self._outstanding, set(), []
        limit = head if cursor < head else self._size
        read = self._entries.command
        while cursor != head:
            at = ring + cursor
            len_op = words[at >> 2]
            opcode = len_op & OPCODE_MASK
            end = cursor + len_op - opcode
            if len_op < HEADER_LENGTH or end > limit:
                raise RingCorrupt(f"entry of {end - cursor} bytes at offset {at}, {limit - cursor} at most")
            if opcode == CMD:
                id_, cdb, data, data_in = read(at, ring + end)
                if id_ in outstanding or id_ in ids:
                    raise RingCorrupt(f"id {id_} of an outstanding command at offset {at}")
                ids.add(id_)
                found.append(make(id_, cdb, data, data_in))
            elif opcode == TMR:
                found.append(self._entries.task_management(at, ring + end))
            if end == self._size:
                end, limit = 0, head
            slots.append(end | opcode)
            cursor = end
        outstanding |= ids
        self._slots += slots
        self._cursor = cursor
        return found

    def _check_head(self, head: int) -> None:
        if head >= self._size or head % ALIGNMENT:
            raise RingCorrupt(f"head {head} in the mailbox, for a ring of {self._size} bytes")
        # Read after the head. If `publish` runs in another thread, the mailbox holds either value of it.
        while (published := self._published) != (tail := self._words[TAIL]) != self._publishing:
            if published == self._published:
                raise RingReset(f"tail {tail} in the mailbox, {published} expected")
        # The kernel never fills the ring beyond our tail, so a head behind our cursor was rewound.
        if (head - published) % self._size < (self._cursor - published) % self._size:
            raise RingReset(f"head {head} in the mailbox, after entries up to {self._cursor}")

    def complete(
        self,
        id: int,  # noqa: A002
        status: int = 0,
        sense: bytes = b"",
        read_len: int = 0,
        *,
        keep_buffer: bool = False,
    ) -> None:
        """Answers a command; the kernel sees it after `publish`.

        The kernel passes `sense` (up to 96 bytes) on with CHECK CONDITION only. `read_len`, if not 0, is how
        many bytes of Data-In are valid: fewer than the initiator expects, or some together with a CHECK
        CONDITION; a kernel without READ_LEN ignores it and sends the whole buffer. `keep_buffer` leaves the
        data and the id to us until action/free_kept_buf.

        Raises ValueError, and has done nothing, if the command is not outstanding or the arguments cannot be
        expressed; RingReset as `publish` does.
        """
        if len(sense) > SENSE_LENGTH or (keep_buffer and not self.flags & MailboxFlag.KEEP_BUFFER):
            raise ValueError(f"command {id}: {len(sense)} bytes of sense, or a kernel that keeps no buffers")
        if self._words[TAIL] != self._published:  # else we might write on top of a new command's request
            self._raise_reset()
        try:
            self._outstanding.remove(id)
        except KeyError:
            raise ValueError(f"command {id} is not outstanding") from None
        if self._early is None:
            self._respond(id, status, sense, read_len, keep_buffer)
        else:
            self._early[id] = (status, sense, read_len, keep_buffer)
            self._respond_in_order(self._early)

    def complete_well(self, commands: Iterable[Identified]) -> None:
        """`complete` for commands that end in GOOD, with all their data valid."""
        if self._early is not None:
            for command in commands:
                self.complete(command.id)
            return
        words = self._words
        if words[TAIL] != self._published:
            self._raise_reset()
        outstanding, slots, first = self._outstanding, self._slots, self._ring + CMD_ID
        for command in commands:
            id_ = command.id
            if id_ not in outstanding:
                raise ValueError(f"command {id_} is not outstanding")
            outstanding.remove(id_)
            if slots[0] & OPCODE_MASK != CMD:
                self._skip()
            at = (first + self._tail) >> 2
            words[at] = id_ << ID_SHIFT  # no flags: the kernel ignores read_len
            words[at + 1] = 0  # GOOD
            self._tail = slots.popleft() ^ CMD

    def _respond_in_order(self, early: dict[int, tuple[int, bytes, int, bool]]) -> None:
        self._skip()
        while self._slots and (id_ := HEADER.unpack_from(self._area, self._ring + self._tail)[1]) in early:
            self._respond(id_, *early.pop(id_))
            self._skip()

    def _respond(self, id_: int, status: int, sense: bytes, read_len: int, keep_buffer: bool) -> None:
        slots = self._slots
        if slots[0] & OPCODE_MASK != CMD:
            self._skip()
        at = self._ring + self._tail + CMD_ID
        uflags = KEEP_BUFFER if keep_buffer else 0
        if read_len and self._can_shorten:
            uflags |= READ_LEN
        if status == _CHECK_CONDITION:
            CHECK_CONDITION_RESPONSE.pack_into(self._area, at, id_, 0, uflags, status, read_len, sense)
        else:
            RESPONSE.pack_into(self._area, at, id_, 0, uflags, status, read_len)
        self._tail = slots.popleft() ^ CMD

    def _skip(self) -> None:
        """Step the tail over entries that are not commands."""
        slots = self._slots
        while slots and (opcode := slots[0] & OPCODE_MASK) != CMD:
            if opcode not in (PAD, TMR):
                self._area[self._ring + self._tail + UFLAGS] |= UNKNOWN_OP
            self._tail = slots.popleft() ^ opcode

    def publish(self) -> bool:
        """Hand all completions so far over to the kernel.

        True if there were any: then the caller owes the kernel a doorbell (a write to the UIO device).
        Raises RingReset.
        """
        if self._slots and self._slots[0] & OPCODE_MASK != CMD:
            self._skip()
        tail, published = self._tail, self._published
        if self._words[TAIL] != published:
            self._raise_reset()
        if tail == published:
            return False
        self._publishing = tail
        # One aligned store: the kernel may read at any moment, and a wrong tail makes it loop for ever.
        # struct.pack_into would zero the word first.
        self._words[TAIL] = tail
        self._published = tail
        return True

    def _raise_reset(self) -> NoReturn:
        raise RingReset(f"tail {self._words[TAIL]} in the mailbox, {self._published} expected")

    def reset(self) -> None:
        """Start over, after action/reset_ring: forget what is outstanding, begin at the mailbox's tail.

        All work on earlier commands must have ended: their buffers belong to others now.
        """
        self._cursor = self._published = self._publishing = self._tail = self._read_tail()
        self._slots.clear()
        self._outstanding.clear()
        if self._early:
            self._early.clear()

    def _read_tail(self) -> int:
        tail = self._words[TAIL]
        if tail >= self._size or tail % ALIGNMENT:
            raise RingCorrupt(f"tail {tail} in the mailbox, for a ring of {self._size} bytes")
        return tail

    def release(self) -> None:
        """Releases the area, so that its mapping can be closed once the requests' slices are dropped, too."""
        self._words.release()
        self._area.release()
