"""Plain READ and WRITE: the fast classification decides as `begin` does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import Read, Write
from tcmu_runner.scsi.reservations import Reservations
from tcmu_runner.scsi.sense import LUN_RESET, ScsiError
from tcmu_runner.scsi.unit import Capabilities, Unit

EVERYTHING = Capabilities(write=True, flush=True, unmap=True)
SIZE = 1 << 20
BLOCK = 512
# SPC-5 4.2.5.1
LENGTHS = {0x28: 10, 0x2A: 10, 0x88: 16, 0x8A: 16, 0x08: 6, 0x0A: 6, 0x35: 10, 0x12: 6, 0xA8: 12, 0xAA: 12}


def unit(capabilities: Capabilities = EVERYTHING) -> Unit:
    return Unit(BLOCK, SIZE, DISK, capabilities)


def command(cdb: bytes, length: int) -> Command:
    return Command(cdb, [memoryview(bytearray(length))] if length else [], Nexus())


@st.composite
def cdbs(draw: st.DrawFn) -> bytes:
    """Of commands near the edges: small LBAs and counts, and now and then any bit."""
    opcode = draw(st.sampled_from(sorted(LENGTHS)))
    size = LENGTHS[opcode]
    fields = bytearray(size)
    fields[0] = opcode
    lba = draw(st.integers(0, SIZE // BLOCK + 2))
    count = draw(st.integers(0, 16))
    if size == 6:
        fields[2:4], fields[4] = lba.to_bytes(2, "big"), count
    if size == 10:
        fields[2:6], fields[7:9] = lba.to_bytes(4, "big"), count.to_bytes(2, "big")
    if size == 12:
        fields[2:6], fields[6:10] = lba.to_bytes(4, "big"), count.to_bytes(4, "big")
    if size == 16:
        fields[2:10], fields[10:14] = lba.to_bytes(8, "big"), count.to_bytes(4, "big")
    if draw(st.booleans()):
        fields[draw(st.integers(1, size - 1))] |= draw(st.integers(0, 255))
    return bytes(fields)


@given(cdbs(), st.integers(0, 16).map(lambda blocks: blocks * BLOCK), st.booleans(), st.booleans())
def test_what_is_plain_is_what_the_long_way_makes_of_it(
    cdb: bytes, length: int, write_cache: bool, protected: bool
) -> None:
    subject = unit()
    subject.mode.write_cache = write_cache
    subject.mode.software_write_protect = protected
    found = subject.plain(cdb, length)
    if found is not None:
        row, offset = found
        whole = command(cdb, length)
        plan = subject.begin(whole)
        data = whole.data
        assert whole.row is row
        assert plan == (Write(offset, data) if row.writes else Read(offset, data))


@pytest.mark.parametrize(
    ("cdb", "writes"),
    [
        ("08 000008 02 00", False),  # READ(6), SBC-3 5.9
        ("0a 000008 02 00", True),  # WRITE(6), SBC-3 5.32
        ("28 00 00000008 00 0002 00", False),  # READ(10), SBC-4 5.16
        ("2a 00 00000008 00 0002 00", True),  # WRITE(10), SBC-4 5.40
        ("a8 00 00000008 00000002 00 00", False),  # READ(12), SBC-4 5.17
        ("aa 00 00000008 00000002 00 00", True),  # WRITE(12), SBC-4 5.42
        ("88 00 0000000000000008 00000002 00 00", False),  # READ(16), SBC-4 5.18
        ("8a 00 0000000000000008 00000002 00 00", True),  # WRITE(16), SBC-4 5.42
    ],
)
def test_reads_and_writes_are_plain(cdb: str, writes: bool) -> None:
    found = unit().plain(bytes.fromhex(cdb), 1024)
    assert found is not None
    assert (found[0].writes, found[1]) == (writes, 4096)


@pytest.mark.parametrize(
    "cdb",
    [
        "28 08 00000008 00 0002 00",  # FUA
        "28 10 00000008 00 0002 00",  # DPO
        "28 20 00000008 00 0002 00",  # RDPROTECT
        "28 00 00000008 01 0002 00",  # a group
        "28 00 00000008 00 0002 04",  # NACA
        "28 00 00000008 00 0003 00",  # more than its buffers hold
        "28 00 00000008 00 0001 00",  # less
        "28 00 000007ff 00 0002 00",  # beyond the end
        "25 00 00000000 00 0000 00",  # READ CAPACITY(10)
    ],
)
def test_whatever_needs_a_look_is_not_plain(cdb: str) -> None:
    assert unit().plain(bytes.fromhex(cdb), 1024) is None


def test_without_a_cache_in_use_a_write_is_not_plain() -> None:
    """It has to be on stable storage before it ends (SBC-4 6.5.6, WCE)."""
    cached = unit()
    cached.mode.write_cache = False
    cdb = bytes.fromhex("2a 00 00000008 00 0002 00")
    assert cached.plain(cdb, 1024) is None
    assert unit(Capabilities(write=True)).plain(cdb, 1024) is not None  # a storage that knows no cache


def test_a_protected_unit_has_no_plain_write() -> None:
    assert unit(Capabilities(flush=True)).plain(bytes.fromhex("2a 00 00000008 00 0002 00"), 1024) is None


def test_what_disturbs() -> None:
    assert unit().undisturbed()
    stopped = unit()
    stopped.medium.power(on=False)
    assert not stopped.undisturbed()


def test_a_unit_attention_has_to_be_told_first() -> None:
    """SAM-5 5.14: to the first command that comes."""
    subject, nexus = unit(), Nexus()
    subject.nexuses.add(nexus)
    nexus.queue_unit_attention(LUN_RESET)
    assert not subject.undisturbed()
    with pytest.raises(ScsiError):
        subject.begin(Command(bytes.fromhex("28 00 00000008 00 0002 00"), [], nexus))
    assert subject.undisturbed()


def test_a_reservation_disturbs() -> None:
    subject, nexus = unit(), Nexus()
    subject.reservations = Reservations()
    assert subject.undisturbed()
    subject.reservations.reserve_unit(nexus)
    assert not subject.undisturbed()
