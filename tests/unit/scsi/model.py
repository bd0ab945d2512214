"""Random commands on a unit over a storage, beside a plain array of what an initiator must read."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Operation, Read
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.play import disk, pieces_of

from .bytestore import run

BLOCKS = 48
LBAS, COUNTS = st.integers(0, BLOCKS + 2), st.integers(0, 9)
READS = st.sampled_from(
    ["28 00 {:08x} 00 {:04x} 00", "a8 00 {:08x} {:08x} 00 00", "88 00 {:016x} {:08x} 00 00"]
)
WRITES = st.sampled_from(
    [
        "2a 08 {:08x} 00 {:04x} 00", "2a 00 {:08x} 00 {:04x} 00", "aa 00 {:08x} {:08x} 00 00",
        "8a 00 {:016x} {:08x} 00 00",
    ]
)  # fmt: skip
FILLS, CUTS = st.integers(0, 255), st.lists(st.integers(1, 5000), max_size=3)


class Storage(Protocol):
    """What is below the unit."""

    def perform(self, operation: Operation) -> None: ...

    def close(self) -> None: ...


Open = Callable[[int, int], tuple[Capabilities, Storage]]  # from its size and block size, in bytes


class DiskModel(RuleBasedStateMachine):
    """`expected` holds what every block must read as.

    open_storage: makes an empty one. forgets: it reads as zeroes for ever.
    """

    open_storage: ClassVar[Open]
    block_sizes: ClassVar[tuple[int, ...]]
    forgets: ClassVar[bool]

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.size = data.draw(st.sampled_from(self.block_sizes))
        capabilities, self.store = type(self).open_storage(BLOCKS * self.size, self.size)
        self.unit = disk(capabilities, block_size=self.size, blocks=BLOCKS)
        self.nexus = Nexus()
        self.expected = bytearray(self.unit.size)

    def do(self, cdb: str, content: bytes, cuts: list[int]) -> tuple[int, bytes]:
        status, _, data = run(self.unit, self.store, bytes.fromhex(cdb), pieces_of(content, cuts), self.nexus)
        return status, data

    def put(self, lba: int, content: bytes | bytearray) -> None:
        if not self.forgets:
            self.expected[lba * self.size : lba * self.size + len(content)] = content

    def there(self, lba: int, count: int) -> bytes:
        return bytes(self.expected[lba * self.size : (lba + count) * self.size])

    def fits(self, lba: int, count: int) -> bool:
        return lba + count <= BLOCKS

    @rule(lba=LBAS, count=COUNTS, layout=READS, extra=st.integers(0, 700), cuts=CUTS)
    def read(self, lba: int, count: int, layout: str, extra: int, cuts: list[int]) -> None:
        room = bytes((0xA5,)) * (count * self.size + extra)
        status, data = self.do(layout.format(lba, count), room, cuts)
        assert (status == 0) == self.fits(lba, count)
        if status == 0:
            assert data == self.there(lba, count)

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, layout=WRITES, cuts=CUTS)
    def write(self, lba: int, count: int, fill: int, layout: str, cuts: list[int]) -> None:
        content = bytes((fill + i) & 0xFF for i in range(256)) * (count * self.size // 256)
        status, _ = self.do(layout.format(lba, count), content, cuts)
        assert (status == 0) == self.fits(lba, count)
        if status == 0:
            self.put(lba, content)

    @rule(lba=LBAS, count=COUNTS, fill=st.sampled_from([0, 7]), unmap=st.booleans())
    def write_same(self, lba: int, count: int, fill: int, unmap: bool) -> None:
        cdb = f"93 {8 if unmap else 0:02x} {lba:016x} {count:08x} 00 00"
        status, _ = self.do(cdb, bytes((fill,)) * self.size, [])
        allowed = self.unit.capabilities.unmap or not unmap
        assert (status == 0) == (self.fits(lba, count) and count > 0 and allowed)
        if status == 0:
            self.put(lba, bytes((fill,)) * (count * self.size))

    @rule(lba=LBAS, count=COUNTS)
    def unmap(self, lba: int, count: int) -> None:
        body = lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4)
        parameters = bytes.fromhex("0016 0010 00000000") + body
        status, _ = self.do("42 00 00000000 00 0018 00", parameters, [])
        assert (status == 0) == (self.fits(lba, count) and self.unit.capabilities.unmap)
        if status == 0 and self.unit.capabilities.unmap_reads_zero:
            self.put(lba, bytes(count * self.size))

    @rule(lba=LBAS, count=COUNTS, same=st.booleans(), check=st.sampled_from([1, 3]), cuts=CUTS)
    def verify(self, lba: int, count: int, same: bool, check: int, cuts: list[int]) -> None:
        there = self.there(lba, count)
        sent = there[: self.size] if check == 3 else there
        if not same and sent:
            sent = bytes((sent[0] ^ 1,)) + sent[1:]
        status, _ = self.do(f"2f {check << 1:02x} {lba:08x} 00 {count:04x} 00", sent, cuts)
        if not self.fits(lba, count):
            assert status == 2
        elif check == 1:
            assert (status == 0) == (same or not count)
        elif count and not same:
            assert status == 2

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, right=st.booleans(), cuts=CUTS)
    def compare_and_write(self, lba: int, count: int, fill: int, right: bool, cuts: list[int]) -> None:
        there = self.there(lba, count)
        compared = there if right or not there else bytes((there[0] ^ 1,)) + there[1:]
        content = bytes((fill,)) * len(there)
        cdb = f"89 00 {lba:016x} 000000 {count:02x} 00 00"
        status, _ = self.do(cdb, compared + content, cuts)
        assert (status == 0) == (self.fits(lba, count) and (right or not count))
        if status == 0:
            self.put(lba, content)

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, cuts=CUTS)
    def orwrite(self, lba: int, count: int, fill: int, cuts: list[int]) -> None:
        content = bytes((fill,)) * (count * self.size)
        status, _ = self.do(f"8b 00 {lba:016x} {count:08x} 00 00", content, cuts)
        assert (status == 0) == self.fits(lba, count)
        if status == 0:
            self.put(lba, self.there(lba, count).translate(bytes(byte | fill for byte in range(256))))

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, cuts=CUTS)
    def write_atomic(self, lba: int, count: int, fill: int, cuts: list[int]) -> None:
        content = bytes((fill,)) * (count * self.size)
        status, _ = self.do(f"9c 00 {lba:016x} 0000 {count:04x} 00 00", content, cuts)
        assert (status == 0) == (self.fits(lba, count) and self.unit.capabilities.atomic)
        if status == 0:
            self.put(lba, content)

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, cuts=CUTS)
    def write_and_verify(self, lba: int, count: int, fill: int, cuts: list[int]) -> None:
        content = bytes((fill,)) * (count * self.size)
        status, _ = self.do(f"8e 02 {lba:016x} {count:08x} 00 00", content, cuts)
        kept = not self.forgets or not any(content)
        assert (status == 0) == (self.fits(lba, count) and kept)
        if status == 0:
            self.put(lba, content)

    @rule(source=LBAS, to=LBAS, count=COUNTS)
    def extended_copy(self, source: int, to: int, count: int) -> None:
        naa = bytes.fromhex("60014054b9ad7abb6f14b0fb3a03a0c0")
        device = bytes((0xE4, 0, 0, 0, 1, 3, 0, 16)) + naa + bytes(8)
        segment = bytes((2, 0, 0, 0x18, 0, 0, 0, 0, 0, 0)) + count.to_bytes(2, "big")
        segment += source.to_bytes(8, "big") + to.to_bytes(8, "big")
        head = bytes((1, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0))
        status, _ = self.do("83 00 0000000000000000 0000004c 00 00", head + device + segment, [])
        assert (status == 0) == (self.fits(source, count) and self.fits(to, count))
        if status == 0:
            self.put(to, self.there(source, count))

    @rule(lba=LBAS)
    def get_lba_status(self, lba: int) -> None:
        status, data = self.do(f"9e 12 {lba:016x} 00001000 00 00", bytes((0xA5,)) * 4096, [])
        assert (status == 0) == (lba < BLOCKS and self.unit.capabilities.extents)
        told: list[bool] = []
        for at in range(8, len(data), 16):
            assert int.from_bytes(data[at : at + 8], "big") == lba + len(told)
            told += [data[at + 12] == 0] * int.from_bytes(data[at + 8 : at + 12], "big")
        if status == 0:
            assert lba + len(told) == BLOCKS
            self.told(lba, told)

    def told(self, lba: int, mapped: list[bool]) -> None:
        """Whatever was never written, or was unmapped, may be mapped; what is not mapped reads as zeroes."""
        for block, state in enumerate(mapped, lba):
            assert state or not self.there(block, 1).strip(b"\0")

    @rule()
    def format_unit(self) -> None:
        status, _ = self.do("04 00 00 0000 00", b"", [])
        assert status == 0
        self.expected[:] = bytes(len(self.expected))

    @rule(cdb=st.sampled_from(["35 00 00000000 00 0000 00", "91 00 0000000000000000 00000000 00 00"]))
    def synchronize_cache(self, cdb: str) -> None:
        assert self.do(cdb, b"", [])[0] == 0

    @invariant()
    def the_storage_holds_what_was_written(self) -> None:
        if hasattr(self, "store"):
            into = bytearray(b"\xa5" * len(self.expected))
            self.store.perform(Read(0, [memoryview(into)]))
            assert into == self.expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


def machine(
    open_storage: Open,
    block_sizes: tuple[int, ...] = (512, 4096),
    *,
    forgets: bool = False,
    base: type[DiskModel] = DiskModel,
) -> type[DiskModel]:
    """The state machine of a unit over one kind of storage."""
    members = {"open_storage": staticmethod(open_storage), "block_sizes": block_sizes, "forgets": forgets}
    return type(base.__name__, (base,), members)
