"""A ring written and read number by number from the tables of the ABI, without the code under test.

Offsets and formats: include/uapi/linux/target_core_user.h, 64-bit.
"""

import struct
from collections.abc import Sequence


class Raw:
    """An area with a mailbox, a ring of `size` bytes at offset 128, and data behind it."""

    def __init__(self, size: int = 3968, data: int = 65536, flags: int = 0xF) -> None:
        self.bytes = bytearray(128 + size + data)
        self.area = memoryview(self.bytes)
        self.size = size
        self.data = 128 + size
        self.put(0, "HHII", 2, flags, 128, size)

    def put(self, at: int, form: str, *values: int | bytes) -> None:
        struct.pack_into("=" + form, self.bytes, at, *values)

    def get(self, at: int, form: str) -> int:
        return int(struct.unpack_from("=" + form, self.bytes, at)[0])

    @property
    def head(self) -> int:
        return self.get(12, "I")

    @head.setter
    def head(self, value: int) -> None:
        self.put(12, "I", value)

    @property
    def tail(self) -> int:
        return self.get(64, "I")

    @tail.setter
    def tail(self, value: int) -> None:
        self.put(64, "I", value)

    def entry(self, op: int, length: int, id_: int = 0) -> int:
        """Clear an entry at the head, write its header, move the head. Returns its offset in the area."""
        at = 128 + self.head
        self.bytes[at : at + length] = bytes(length)
        self.put(at, "IHBB", length | op, id_, 0, 0)
        self.head = (self.head + length) % self.size
        return at

    def command(
        self,
        id_: int,
        cdb: bytes = bytes(6),
        iovs: Sequence[tuple[int, int]] = (),
        bidi: Sequence[tuple[int, int]] = (),
    ) -> int:
        """A CMD entry; iovs are (offset in the data, length). Returns its offset in the area."""
        count = len(iovs) + len(bidi)
        base = max(48 + 16 * count, 112)
        at = self.entry(1, base + -(-len(cdb) // 8) * 8, id_)
        self.put(at + 8, "III", len(iovs), len(bidi), 0)
        self.put(at + 24, "Q", at + base)
        for number, (start, length) in enumerate([*iovs, *bidi]):
            self.put(at + 48 + 16 * number, "QQ", self.data + start, length)
        self.bytes[at + base : at + base + len(cdb)] = cdb
        return at

    def task_management(self, type_: int, ids: Sequence[int]) -> int:
        at = self.entry(2, -(-(32 + 2 * len(ids)) // 8) * 8)
        self.put(at + 8, "B3xI", type_, len(ids))
        self.put(at + 32, f"{len(ids)}H", *ids)
        return at

    def entries(self) -> list[tuple[int, int, int, int]]:
        """From tail to head: offset in the area, opcode, cmd_id, length."""
        found, at = [], self.tail
        while at != self.head:
            len_op = self.get(128 + at, "I")
            found.append((128 + at, len_op & 7, self.get(128 + at + 4, "H"), len_op & ~7))
            at = (at + (len_op & ~7)) % self.size
        return found

    def answer(
        self, id_: int, status: int = 0, uflags: int = 0, read_len: int = 0, sense: bytes = b""
    ) -> None:
        """Complete a command in the slot at the tail, and move the tail."""
        at = 128 + self.tail
        self.put(at + 4, "HBBB3xI", id_, 0, uflags, status, read_len)
        if status == 2:
            self.put(at + 16, "96s", sense)
        self.step()

    def step(self) -> None:
        """Move the tail over one slot."""
        self.tail = (self.tail + (self.get(128 + self.tail, "I") & ~7)) % self.size
