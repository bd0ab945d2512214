"""The mechanics of the kernel's end of the ring: entries are written at the head, completed slots come back.

Space comes back not when the consumer moves the tail but when the slots are processed: the kernel keeps its
own pointer, "last cleaned", for that.
"""

from collections import deque
from collections.abc import Iterator
from typing import NoReturn

from tcmu_runner.ring.layout import HEAD, HEADER, MAILBOX_LENGTH, OPCODE_MASK, PAD, TAIL


class ProducerAlarm(AssertionError):  # noqa: N818 - the consumer's error, not ours
    """The consumer did what breaks the ring for the real kernel, or hangs the real kernel for good."""


class RingWriter:
    """The ring in `area`, `size` bytes, which lies behind the mailbox.

    `broken` says what the consumer did wrong: from then on, nothing is processed until `reset`.
    """

    def __init__(self, area: memoryview, size: int) -> None:
        self._area = area
        self._words = area[: MAILBOX_LENGTH + size].cast("I")
        self.size = size
        self.reset()

    def reset(self) -> None:
        """Empty the ring: head and tail are 0."""
        self._head = self._cleaned = 0
        self._slots: deque[tuple[int, int]] = deque()  # from cleaned to head: len_op and cmd_id
        self._words[HEAD] = self._words[TAIL] = 0
        self.broken = ""
        self.posted = False  # whether there is a new entry

    def has_room(self, length: int) -> bool:
        """Whether there is room for an entry, and the padding it needs.

        One byte at least stays free, so that a full ring does not look empty.
        """
        self._check_head()
        head, size = self._head, self.size
        needed = length if length <= size - head else size - head + length
        return needed < size - (head - self._cleaned) % size

    def place(self, length: int) -> int:
        """The offset in the area for an entry that `has_room`. None straddles the end of the ring."""
        to_end = self.size - self._head
        if length > to_end:
            self.append(HEADER.pack(to_end | PAD, 0, 0, 0).ljust(to_end, b"\0"))
        return MAILBOX_LENGTH + self._head

    def append(self, entry: bytes | bytearray, id_: int = 0) -> None:
        """Write an entry in its place, and only then move the head: by one aligned store."""
        head, length, words = self._head, len(entry), self._words
        at = MAILBOX_LENGTH + head
        self._area[at : at + length] = entry
        self._slots.append((words[at >> 2], id_))
        words[HEAD] = self._head = (head + length) % self.size
        self.posted = True

    def completed(self) -> Iterator[tuple[int, int, int]]:
        """The slots up to the tail: offset in the area, opcode, and the id that was posted there.

        A slot is free for new entries as soon as the next is asked for.
        """
        if self.broken:
            raise ProducerAlarm(self.broken)
        self._check_head()
        tail = self._words[TAIL]
        while self._cleaned != tail:
            if not self._slots:
                self.alarm(f"tail {tail} is not the end of a slot, the head is {self._head}")
            len_op, id_ = self._slots.popleft()
            at = MAILBOX_LENGTH + self._cleaned
            if (found := self._words[at >> 2]) != len_op:
                self.alarm(f"len_op {len_op:#x} of the slot at offset {at} was changed to {found:#x}")
            opcode = len_op & OPCODE_MASK
            yield at, opcode, id_
            self._cleaned = (self._cleaned + len_op - opcode) % self.size

    def _check_head(self) -> None:
        if (head := self._words[HEAD]) != self._head:
            self.alarm(f"head {self._head} in the mailbox was changed to {head}")

    def alarm(self, what: str) -> NoReturn:
        """The consumer has broken the ring."""
        self.broken = what
        raise ProducerAlarm(what)

    def release(self) -> None:
        """Let go of the area."""
        self._words.release()
