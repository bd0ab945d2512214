"""Any CDB with any data ends in a status, and no byte that an earlier command left in a buffer comes back."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reservations import Reservations
from tcmu_runner.scsi.table import Row
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import EVERYTHING, disk, pieces_of

from .bytestore import ByteStore, run
from .test_alua import Ports

BLOCKS = 64
CAPABILITIES = [
    replace(EVERYTHING, crypto_erase=True, space=True),
    Capabilities(),
    Capabilities(write=True),
    Capabilities(write=True, unmap=True),
]
# SEND DIAGNOSTIC, MODE SELECT, WRITE BUFFER, VERIFY, PERSISTENT RESERVE OUT, SET TARGET PORT GROUPS
TAKING_DATA = (0x1D, 0x15, 0x55, 0x3B, 0x2F, 0x8F, 0xAF, 0x5F, 0xA4)
WRITING = frozenset(row.opcode for row in DISK if row.writes)
CDB_LENGTHS = {0: 6, 1: 10, 2: 10, 3: 12, 4: 16, 5: 12, 6: 16, 7: 16}  # SPC-5 4.2.5.1 groups


def make(capabilities: Capabilities, *, lent: bool) -> Unit:
    """A unit, with all that a front end can lend it or with nothing."""
    unit = disk(capabilities, blocks=BLOCKS)
    if lent:
        unit.removable = unit.tells_residuals = True
        unit.reservations = Reservations()
        unit.ports = Ports()
        unit.luns = lambda: [0, 1]
    return unit


UNITS = st.builds(make, st.sampled_from(CAPABILITIES), lent=st.booleans())


def plausible(row: Row, noise: bytes, kept: bytes | None) -> bytes:
    """A CDB of a row of the table. kept: the fields are small, and those whose byte is even are zero."""
    small = 0xFF if kept is None else 0x1F
    cdb = bytearray(a & b & small for a, b in zip(row.mask, noise, strict=False))
    if kept is not None:
        for at in range(2, len(cdb) - 1):
            cdb[at] &= 0x1F if kept[at] & 1 else 0
    cdb[0] = row.opcode
    if row.action is not None and row.opcode == 0x7F:
        cdb[7], cdb[8:10] = len(cdb) - 8, row.action.to_bytes(2, "big")
    elif row.action is not None:
        cdb[1] = cdb[1] & 0xE0 | row.action
    return bytes(cdb)


LONGEST = max(len(row.mask) for row in DISK)
NOISE = st.binary(min_size=LONGEST, max_size=LONGEST)
PLAUSIBLE_CDBS = st.builds(plausible, st.sampled_from(list(DISK)), NOISE, st.none() | NOISE)
"""Those whose fields often pass the checks."""


def any_cdb(first: int, rest: bytes, size: int | None) -> bytes:
    """size: None for the one that belongs to the opcode."""
    return (bytes((first,)) + rest)[: CDB_LENGTHS[first >> 5] if size is None else size]


REST = st.binary(min_size=40, max_size=40)
ANY_CDBS = st.builds(any_cdb, st.integers(0, 255), REST, st.none() | st.integers(0, 40))


def takes_data(cdb: bytes) -> bool:
    """Whether the buffer is the initiator's data, on which the answer may well depend."""
    return bool(cdb) and (cdb[0] in WRITING or cdb[0] in TAKING_DATA)


@settings(max_examples=400, deadline=None)
@given(
    unit=UNITS,
    cdbs=st.lists(PLAUSIBLE_CDBS | ANY_CDBS, min_size=1, max_size=6),
    content=st.binary(max_size=200),
    room=st.sampled_from([0, 1, 5, 36, 511, 512, 513, 4096, 70000]),
    cuts=st.lists(st.integers(1, 600), max_size=3),
)
def test_any_cdb_ends_in_a_status(
    unit: Unit, cdbs: list[bytes], content: bytes, room: int, cuts: list[int]
) -> None:
    nexus = Nexus()
    unit.connect(nexus)
    store = ByteStore(unit.size, unit.block_size)
    for cdb in cdbs:
        data = pieces_of((content + bytes(room))[: max(room, len(content))], cuts)
        status, sense, _ = run(unit, store, cdb, data, nexus)
        assert status in (0x00, 0x02, 0x04, 0x08, 0x18)
        assert (status == 0x02) == (sense is not None)
        if sense is not None:
            assert len(sense.encode()) == 18
            assert len(sense.encode(descriptor=True)) <= 96  # what the ring has room for


@settings(max_examples=300, deadline=None)
@given(
    capabilities=st.sampled_from(CAPABILITIES),
    lent=st.booleans(),
    cdb=PLAUSIBLE_CDBS,
    room=st.sampled_from([1, 5, 36, 511, 512, 513, 4096, 70000]),
    cuts=st.lists(st.integers(1, 600), max_size=3),
)
def test_what_comes_back_does_not_depend_on_what_was_in_the_buffer(
    capabilities: Capabilities, lent: bool, cdb: bytes, room: int, cuts: list[int]
) -> None:
    answers = []
    for stale in (b"\xa5", b"\x5a"):
        unit = make(capabilities, lent=lent)
        nexus = Nexus()
        store = ByteStore(unit.size, unit.block_size)
        status, sense, data = run(unit, store, cdb, pieces_of(stale * room, cuts), nexus)
        answers.append((status, sense, data))
    if not takes_data(cdb):
        assert answers[0] == answers[1]
