"""Any CDB with any data ends in a status, and no byte that an earlier command left in a buffer comes back."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reservations import Reservations
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


@st.composite
def units(draw: st.DrawFn) -> Unit:
    return make(draw(st.sampled_from(CAPABILITIES)), lent=draw(st.booleans()))


ROWS = st.sampled_from(list(DISK))


@st.composite
def plausible_cdbs(draw: st.DrawFn) -> bytes:
    """A row of the table with fields that often pass the checks."""
    row = draw(ROWS)
    noise = draw(st.binary(min_size=len(row.mask), max_size=len(row.mask)))
    kept = draw(st.one_of(st.none(), st.binary(min_size=len(row.mask), max_size=len(row.mask))))
    small = kept is not None  # then about half of the fields are zero
    cdb = bytearray(a & b & (0x1F if small else 0xFF) for a, b in zip(row.mask, noise, strict=True))
    if kept is not None:
        for at in range(2, len(cdb) - 1):
            cdb[at] &= 0x1F if kept[at] & 1 else 0
    cdb[0] = row.opcode
    if row.action is not None and row.opcode == 0x7F:
        cdb[7], cdb[8:10] = len(cdb) - 8, row.action.to_bytes(2, "big")
    elif row.action is not None:
        cdb[1] = cdb[1] & 0xE0 | row.action
    return bytes(cdb)


@st.composite
def any_cdbs(draw: st.DrawFn) -> bytes:
    opcode = draw(st.integers(0, 255))
    size = draw(st.one_of(st.just(CDB_LENGTHS[opcode >> 5]), st.integers(0, 40)))
    return (bytes((opcode,)) + draw(st.binary(min_size=size, max_size=size)))[:size]


def takes_data(cdb: bytes) -> bool:
    """Whether the buffer is the initiator's data, on which the answer may well depend."""
    return bool(cdb) and (cdb[0] in WRITING or cdb[0] in TAKING_DATA)


@settings(max_examples=400, deadline=None)
@given(
    unit=units(),
    cdbs=st.lists(st.one_of(plausible_cdbs(), any_cdbs()), min_size=1, max_size=6),
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
    cdb=plausible_cdbs(),
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
