"""Random commands on a unit over a byte store, beside a plain array of what an initiator must read."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.unit import Capabilities

from .bytestore import ByteStore, run
from .play import EVERYTHING, disk, pieces_of

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


class DiskModel(RuleBasedStateMachine):
    """`expected` holds what every block must read as."""

    @initialize(
        block_size=st.sampled_from([512, 4096]),
        capabilities=st.sampled_from(
            [
                EVERYTHING,
                Capabilities(write=True, unmap=True, unmap_reads_zero=True),
                Capabilities(write=True),
            ]
        ),
    )
    def start(self, block_size: int, capabilities: Capabilities) -> None:
        self.unit = disk(capabilities, block_size=block_size, blocks=BLOCKS)
        self.size = block_size
        self.store = ByteStore(self.unit.size, block_size)
        self.nexus = Nexus()
        self.expected = bytearray(self.unit.size)

    def do(self, cdb: str, content: bytes, cuts: list[int]) -> tuple[int, bytes]:
        status, _, data = run(self.unit, self.store, bytes.fromhex(cdb), pieces_of(content, cuts), self.nexus)
        return status, data

    def fits(self, lba: int, count: int) -> bool:
        return lba + count <= BLOCKS

    @rule(lba=LBAS, count=COUNTS, layout=READS, extra=st.integers(0, 700), cuts=CUTS)
    def read(self, lba: int, count: int, layout: str, extra: int, cuts: list[int]) -> None:
        room = bytes((0xA5,)) * (count * self.size + extra)
        status, data = self.do(layout.format(lba, count), room, cuts)
        assert (status == 0) == self.fits(lba, count)
        if status == 0:
            assert data == self.expected[lba * self.size : (lba + count) * self.size]

    @rule(lba=LBAS, count=COUNTS, fill=FILLS, layout=WRITES, cuts=CUTS)
    def write(self, lba: int, count: int, fill: int, layout: str, cuts: list[int]) -> None:
        content = bytes((fill + i) & 0xFF for i in range(256)) * (count * self.size // 256)
        status, _ = self.do(layout.format(lba, count), content, cuts)
        assert (status == 0) == self.fits(lba, count)
        if status == 0:
            self.expected[lba * self.size : (lba + count) * self.size] = content

    @rule(lba=LBAS, count=COUNTS, fill=st.sampled_from([0, 7]), unmap=st.booleans())
    def write_same(self, lba: int, count: int, fill: int, unmap: bool) -> None:
        cdb = f"93 {8 if unmap else 0:02x} {lba:016x} {count:08x} 00 00"
        status, _ = self.do(cdb, bytes((fill,)) * self.size, [])
        allowed = self.unit.capabilities.unmap or not unmap
        assert (status == 0) == (self.fits(lba, count) and count > 0 and allowed)
        if status == 0:
            self.expected[lba * self.size : (lba + count) * self.size] = bytes((fill,)) * (count * self.size)

    @rule(lba=LBAS, count=COUNTS)
    def unmap(self, lba: int, count: int) -> None:
        body = lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4)
        parameters = bytes.fromhex("0016 0010 00000000") + body
        status, _ = self.do("42 00 00000000 00 0018 00", parameters, [])
        assert (status == 0) == (self.fits(lba, count) and self.unit.capabilities.unmap)
        if status == 0 and self.unit.capabilities.unmap_reads_zero:
            self.expected[lba * self.size : (lba + count) * self.size] = bytes(count * self.size)

    @invariant()
    def the_storage_holds_what_was_written(self) -> None:
        if hasattr(self, "store"):
            assert self.store.disk == self.expected


TestDiskModel = DiskModel.TestCase
TestDiskModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
