"""Commands on the ring, from their place in it to their completion, as target_core_user.c keeps them.

The lowest free id and the lowest free blocks are used first. A command that timed out keeps both until the
consumer completes it; a buffer that the consumer keeps holds both until `free`.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from tcmu_runner.ring.blocks import Blocks
from tcmu_runner.ring.entry import command_entry
from tcmu_runner.ring.layout import (
    CMD_ID,
    ID_MAX,
    KEEP_BUFFER,
    READ_LEN,
    RESPONSE,
    SENSE_LENGTH,
    UNKNOWN_OP,
    Iov,
    Layout,
    MailboxFlag,
)
from tcmu_runner.ring.ticket import (
    CHECK_CONDITION,
    COMMUNICATION_FAILURE,
    GOOD,
    INVALID_FIELD,
    TASK_SET_FULL,
    Ticket,
)
from tcmu_runner.ring.writer import RingWriter

NO_DATA = memoryview(b"")


class PlacementRefused(Exception):  # noqa: N818 - an answer
    """The command cannot be placed, now or ever: status and sense."""


class Outstanding:
    """The commands on `ring`. Their data is in `area`, from the offset `start` on."""

    def __init__(
        self,
        area: memoryview,
        ring: RingWriter,
        start: int,
        *,
        block_size: int,
        layout: Layout,
        flags: MailboxFlag,
    ) -> None:
        self._area, self._ring, self._start = area, ring, start
        self._block_size, self._layout = block_size, layout
        # An older kernel does not look at flags that it does not know.
        self._uflags = UNKNOWN_OP
        self._uflags |= READ_LEN if flags & MailboxFlag.READ_LEN else 0
        self._uflags |= KEEP_BUFFER if flags & MailboxFlag.KEEP_BUFFER else 0
        self._in_order = not flags & MailboxFlag.OUT_OF_ORDER
        self.forget()

    def forget(self) -> None:
        """No commands, all blocks free."""
        self._blocks = Blocks(self._area, self._start, self._block_size)
        self._commands: dict[int, Ticket] = {}  # by id; among them those expired and those kept
        self._free_ids: list[int] = []  # heap of those below the next
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._commands)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._commands.values()))

    def get(self, id_: int) -> Ticket | None:
        return self._commands.get(id_)

    def place(self, ticket: Ticket) -> bool:
        """Puts a command on the ring. False: no room yet. Raises PlacementRefused."""
        blocks, out = self._blocks, len(ticket.data_out)
        main, bidi = (out, ticket.data_in_length) if out else (ticket.data_in_length, 0)
        needed = blocks.whole(main) + blocks.whole(bidi) if bidi else blocks.whole(main)
        if needed > blocks.free:
            if needed > blocks.total:
                raise PlacementRefused(*INVALID_FIELD)
            return False
        iovs = blocks.take(main)
        ticket.main = len(iovs)
        if bidi:
            iovs += blocks.take(bidi)
        placed = False
        try:
            placed = self._place_entry(ticket, iovs)
        finally:
            if not placed:
                blocks.give(iovs)
        return placed

    def _place_entry(self, ticket: Ticket, iovs: list[Iov]) -> bool:
        ring, length = self._ring, self._layout.entry_length(len(iovs), len(ticket.cdb))
        if length > ring.size // 2:
            raise PlacementRefused(*INVALID_FIELD)
        if not ring.has_room(length):
            return False
        if len(self._commands) == ID_MAX:
            raise PlacementRefused(TASK_SET_FULL)
        ticket.iovs = iovs
        ticket.id = self._new_id()
        self._commands[ticket.id] = ticket
        if ticket.data_out:
            self._blocks.write(iovs[: ticket.main], ticket.data_out)
            ticket.data_out = NO_DATA
        at = ring.place(length)
        ring.append(command_entry(self._layout, at, length, ticket), ticket.id)
        return True

    def _new_id(self) -> int:
        """The lowest that is free."""
        if self._free_ids:
            return heappop(self._free_ids)
        self._next_id += 1
        return self._next_id - 1

    def free(self, ticket: Ticket) -> None:
        """Gives back id and blocks."""
        del self._commands[ticket.id]
        heappush(self._free_ids, ticket.id)
        self._blocks.give(ticket.iovs)

    def complete(self, at: int, slot_id: int) -> Ticket | None:
        """Reads the completion in the slot at offset `at`, which held command `slot_id`. The ticket that has
        its answer by it; None for one that had expired. Raises ProducerAlarm."""
        id_, _, uflags, status, read_len = RESPONSE.unpack_from(self._area, at + CMD_ID)
        ticket = self._commands.get(id_)
        if ticket is None or ticket.kept:
            self._ring.alarm(f"command {id_}, completed in the slot at offset {at}, is not outstanding")
        if self._in_order and id_ != slot_id:
            self._ring.alarm(f"command {id_} completed in the slot at offset {at} of command {slot_id}")
        uflags &= self._uflags
        answered = ticket.status is None  # else it has expired, and the initiator has its answer
        if answered:
            self._answer(ticket, at, status, read_len if uflags & READ_LEN else 0, uflags)
        if uflags & KEEP_BUFFER:
            ticket.kept = True
        else:
            self.free(ticket)
        return ticket if answered else None

    def _answer(self, ticket: Ticket, at: int, status: int, read_len: int, uflags: int) -> None:
        """What the initiator gets. `read_len` is 0 unless it is valid; a bidirectional command has none."""
        iovs, length = ticket.iovs, ticket.data_in_length
        if bidi := len(iovs) > ticket.main:
            iovs = iovs[ticket.main :]
        if uflags & UNKNOWN_OP:
            ticket.end(*COMMUNICATION_FAILURE)
            return
        if bidi:
            read_len = 0
        if length and (status == GOOD or (status == CHECK_CONDITION and read_len)):
            ticket.data = self._blocks.read(iovs)[: read_len or length]
        sense = b""
        if status == CHECK_CONDITION:
            start = at + RESPONSE.size + CMD_ID
            sense = self._area[start : start + SENSE_LENGTH].tobytes()
        ticket.end(status, sense)
