import errno
import random
from collections.abc import Generator

import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Read, Remote, Write
from tcmu_runner.scsi.reservations import Reservations, Type
from tcmu_runner.scsi.unit import Capabilities, Identity, Unit
from tcmu_runner.scsi.xcopy import CopyResults, Designator, Peer
from tcmu_runner.testing.play import EVERYTHING, Ending, Step, bytes_of, disk, pieces_of, play, space

from .bytestore import ByteStore, run

BLOCK = bytes(range(256)) * 2
SERIAL = "4b9ad7ab-b6f1-4b0f-b3a0-3a0c0c1b4a7e"
NAA = "6001405" + SERIAL.replace("-", "")[:25]  # as VPD page 83h gives it
HOLD, DISCARD, NONE = 0x00, 0x10, 0x18  # LIST ID USAGE in its place (SPC-5 table 129)


def cscd(name: str = NAA, *, flags: int = 0, block_size: int = 512) -> bytes:
    """Identification descriptor CSCD descriptor (SPC-5 table 136): type E4h, disk, code set binary, NAA."""
    value = bytes.fromhex(name)
    head = bytes((0xE4, flags, 0, 0, 0x01, 0x03, 0, len(value)))
    return head + value.ljust(20, b"\0") + b"\0" + block_size.to_bytes(3, "big")


def segment(
    source_lba: int, to_lba: int, blocks: int, source: int = 0, to: int = 0, *, dc: bool = False
) -> bytes:
    """Block device to block device segment descriptor (SPC-5 table 147)."""
    head = bytes((0x02, 0x02 if dc else 0, 0, 0x18)) + source.to_bytes(2, "big") + to.to_bytes(2, "big")
    return (
        head
        + bytes(2)
        + blocks.to_bytes(2, "big")
        + source_lba.to_bytes(8, "big")
        + to_lba.to_bytes(8, "big")
    )


def with_offsets(source: int, to: int, length: int, *, to_cscd: int = 0) -> bytes:
    """Block device with offset to block device with offset (SPC-4 6.4.6.12), in bytes."""
    lbas = (source // 512).to_bytes(8, "big") + (to // 512).to_bytes(8, "big")
    offsets = (source % 512).to_bytes(2, "big") + (to % 512).to_bytes(2, "big")
    head = bytes.fromhex("0a00 001c 0000") + to_cscd.to_bytes(2, "big")
    return head + length.to_bytes(4, "big") + lbas + offsets


def parameters(cscds: list[bytes], segments: list[bytes], *, list_id: int = 1, usage: int = HOLD) -> bytes:
    """SPC-5 table 128."""
    devices, copies = b"".join(cscds), b"".join(segments)
    head = bytes((list_id, usage)) + len(devices).to_bytes(2, "big") + bytes(4)
    return head + len(copies).to_bytes(4, "big") + bytes(4) + devices + copies


def copy(unit: Unit, data: bytes, *script: Step, nexus: Nexus | None = None) -> Ending:
    cdb = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    return play(unit, cdb, *script, out=data, nexus=nexus)


def results(unit: Unit, action: int, nexus: Nexus, list_id: int = 1) -> Ending:
    cdb = bytes((0x84, action, list_id)) + bytes(7) + (255).to_bytes(4, "big") + b"\0\0"
    return play(unit, cdb, room=255, nexus=nexus)


def test_a_segment_is_read_and_written() -> None:
    steps = ((Read(8 * 512, space(1024)), BLOCK * 2), (Write(100 * 512, bytes_of(BLOCK * 2)), None))
    assert copy(disk(), parameters([cscd()], [segment(8, 100, 2)]), *steps).status == 0


def test_segments_in_their_order() -> None:
    steps = (
        (Read(0, space(512)), BLOCK), (Write(512, bytes_of(BLOCK)), None),
        (Read(512, space(512)), BLOCK), (Write(1024, bytes_of(BLOCK)), None),
    )  # fmt: skip
    data = parameters([cscd(), cscd()], [segment(0, 1, 1, 0, 1), segment(1, 2, 1, 1, 0)])
    assert copy(disk(), data, *steps).status == 0


def test_large_segments_are_copied_in_chunks() -> None:
    unit = disk(blocks=1 << 20)
    mebibyte = BLOCK * 2048
    steps = (
        (Read(0, space(1 << 20)), mebibyte), (Write(1 << 24, bytes_of(mebibyte)), None),
        (Read(1 << 20, space(512)), BLOCK), (Write((1 << 24) + (1 << 20), bytes_of(BLOCK)), None),
    )  # fmt: skip
    assert copy(unit, parameters([cscd()], [segment(0, 1 << 15, 2049)]), *steps).status == 0


@pytest.mark.parametrize(("source", "to"), [(0, 3), (3, 0), (0, 2500), (2500, 0), (7, 7)])
def test_overlapping_ranges(source: int, to: int) -> None:
    unit = disk(blocks=16384)
    store = ByteStore(unit.size, 512)
    content = b"".join(block.to_bytes(2, "big") * 256 for block in range(16384))
    store.disk[:] = content
    data = parameters([cscd()], [segment(source, to, 5000)])
    cdb = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    status, _, _ = run(unit, store, cdb, pieces_of(data, [20]), Nexus())
    assert status == 0
    assert store.disk[to * 512 : (to + 5000) * 512] == content[source * 512 : (source + 5000) * 512]


MANY = (1 << 20) + 700  # bytes, which are copied in two chunks
FAR = 3 << 20
CONTENT = random.Random(1).randbytes(5 << 20)


@pytest.mark.parametrize("length", [1, 200, 512, 1024, 1300, MANY])
@pytest.mark.parametrize(
    ("source", "to"), [(0, FAR), (512, FAR + 100), (100, FAR), (7, FAR + 500), (0, 900), (900, 0), (3, 3)]
)
def test_bytes_are_copied_and_their_neighbours_stay(source: int, to: int, length: int) -> None:
    unit = disk(blocks=len(CONTENT) // 512)
    store = ByteStore(unit.size, 512)
    store.disk[:] = CONTENT
    data = parameters([cscd()], [with_offsets(source, to, length)])
    cdb = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    status, _, _ = run(unit, store, cdb, pieces_of(data, [20]), Nexus())
    assert status == 0
    assert store.disk == CONTENT[:to] + CONTENT[source : source + length] + CONTENT[to + length :]


def test_segments_of_both_kinds() -> None:
    steps = (
        (Read, BLOCK),
        (Write, None),
        (Read(1024, space(512)), BLOCK),
        (Write(2048, bytes_of(BLOCK)), None),
    )
    data = parameters([cscd()], [segment(0, 1, 1), with_offsets(1024, 2048, 512)])
    assert copy(disk(), data, *steps).status == 0


def test_no_bytes_to_copy() -> None:
    assert copy(disk(), parameters([cscd()], [with_offsets(100, 700, 0)])).status == 0


def test_more_bytes_than_a_segment_may_have() -> None:
    # MAXIMUM SEGMENT LENGTH (SPC-5 table 318)
    data = parameters([cscd()], [with_offsets(0, 1 << 30, (1 << 28) + 1)])
    assert copy(disk(blocks=1 << 23), data).triple == "5/26/00"


@pytest.mark.parametrize(("source", "to"), [(1023 * 512 + 1, 0), (0, 1023 * 512 + 1)])
def test_bytes_beyond_the_end(source: int, to: int) -> None:
    assert copy(disk(), parameters([cscd()], [with_offsets(source, to, 512)])).triple == "A/00/00"


def test_no_parameter_list_is_no_error() -> None:
    assert play(disk(), "83 00 0000000000000000 00000000 00 00").status == 0


@pytest.mark.parametrize("blocks", [0, 1])
def test_nothing_to_copy(blocks: int) -> None:
    segments = [] if blocks else [segment(0, 1, 0)]
    assert copy(disk(), parameters([cscd()], segments)).status == 0


@pytest.mark.parametrize("cut", [1, 28, 29, 60])
def test_a_cut_list(cut: int) -> None:
    # SPC-5 6.6.1: 5/1A/00 PARAMETER LIST LENGTH ERROR
    data = parameters([cscd()], [segment(0, 1, 1)])
    assert copy(disk(), data[: len(data) - cut]).triple == "5/1A/00"


def test_a_list_that_ends_within_a_descriptor() -> None:
    data = bytearray(parameters([cscd()], [segment(0, 1, 1)]))
    data[8:12] = (27).to_bytes(4, "big")
    assert copy(disk(), bytes(data)).triple == "5/1A/00"


@pytest.mark.parametrize("extra", [1 << 8, 1 << 16, 1 << 24])
def test_the_length_of_the_segment_list_is_taken_whole(extra: int) -> None:
    """prior-art 2.1 #12: it was cut from 32 to 16 and to 8 bits."""
    data = bytearray(parameters([cscd()], [segment(0, 1, 1)]))
    data[8:12] = (28 + extra).to_bytes(4, "big")
    assert copy(disk(), bytes(data)).triple == "5/1A/00"


def test_less_data_than_announced() -> None:
    data = parameters([cscd()], [segment(0, 1, 1)])
    assert play(disk(), "83 00 0000000000000000 0000004c 00 00", out=data[:40]).triple == "5/1A/00"


def test_descriptors_that_are_not_supported() -> None:
    # SPC-5 6.6.1: 5/26/07 UNSUPPORTED TARGET DESCRIPTOR TYPE CODE, 5/26/09 ... SEGMENT DESCRIPTOR ...
    foreign = b"\xe0" + cscd()[1:]
    assert copy(disk(), parameters([foreign], [segment(0, 1, 1)])).triple == "5/26/07"
    stream = b"\x03" + bytes(19)
    assert copy(disk(), parameters([cscd()], [stream])).triple == "5/26/09"


def test_too_many_descriptors() -> None:
    # 5/26/06 TOO MANY TARGET DESCRIPTORS, 5/26/08 TOO MANY SEGMENT DESCRIPTORS; longer than the list: 5/1A/00
    assert copy(disk(), parameters([cscd()] * 17, [segment(0, 1, 1)])).triple == "5/26/06"
    assert copy(disk(), parameters([cscd()], [segment(0, 1, 1)] * 17)).triple == "5/26/08"
    assert copy(disk(), parameters([cscd()], [with_offsets(0, 512, 1)] * 17)).triple == "5/26/08"
    assert copy(disk(), parameters([cscd()] * 18, [segment(0, 1, 1)] * 17)).triple == "5/1A/00"


@pytest.mark.parametrize(
    ("list_id", "usage", "why"), [(1, 0x08, "5/26/00"), (1, NONE, "5/26/00"), (0, NONE, "good")]
)
def test_list_id_usage(list_id: int, usage: int, why: str) -> None:
    # SPC-5 table 129: 01b is reserved, 11b goes with LIST IDENTIFIER zero
    outcome = copy(disk(), parameters([cscd()], [], list_id=list_id, usage=usage))
    assert ("good" if outcome.status == 0 else outcome.triple) == why


def test_inline_data_is_refused() -> None:
    data = bytearray(parameters([cscd()], []))
    data[15] = 1
    assert copy(disk(), bytes(data)).triple == "5/26/00"


def test_a_segment_of_wrong_length() -> None:
    wrong = bytearray(segment(0, 1, 1))
    wrong[3] = 0x10
    assert copy(disk(), parameters([cscd()], [bytes(wrong)])).triple == "5/26/00"


ABORTED = [
    ([cscd()], [segment(0, 1, 1, 0, 1)], "A/0D/02"),  # no such CSCD: COPY TARGET DEVICE NOT REACHABLE
    ([cscd(flags=0x20)], [segment(0, 1, 1)], "A/0D/02"),  # NUL
    ([cscd("6001405" + "0" * 25)], [segment(0, 1, 1)], "A/0D/02"),  # another LUN
    ([cscd(block_size=4096)], [segment(0, 1, 1)], "A/0D/03"),  # INCORRECT COPY TARGET DEVICE TYPE
    ([cscd(flags=0x05)], [segment(0, 1, 1)], "A/0D/03"),  # not a disk
    ([cscd()], [segment(1023, 0, 2)], "A/00/00"),  # beyond the end of the source
    ([cscd()], [segment(0, 1023, 2)], "A/00/00"),
]


@pytest.mark.parametrize(("cscds", "segments", "why"), ABORTED)
def test_what_aborts_a_copy(cscds: list[bytes], segments: list[bytes], why: str) -> None:
    # SPC-5 6.6.1: errors of a segment are COPY ABORTED
    assert copy(disk(), parameters(cscds, segments)).triple == why


def test_lu_id_type_means_nothing_here() -> None:
    steps = ((Read, BLOCK), (Write, None))
    assert copy(disk(), parameters([cscd(flags=0x80)], [segment(0, 1, 1)]), *steps).status == 0


def test_an_error_of_the_storage() -> None:
    error = OSError(errno.EIO, "broken")
    assert copy(disk(), parameters([cscd()], [segment(0, 1, 1)]), (Read, error)).error is error


# other LUNs


def other_lun(*, block_size: int = 512, capabilities: Capabilities = EVERYTHING) -> tuple[Unit, str]:
    serial = "0123456789abcdef0123456789abcdef"
    return disk(capabilities, block_size=block_size, identity=Identity(serial=serial)), "6001405" + serial[
        :25
    ]


def test_other_luns_are_out_of_reach_unless_someone_lends_them() -> None:
    """CVE-2020-28374: EXTENDED COPY reached LUNs to which the initiator had no access."""
    _, name = other_lun()
    outcome = copy(disk(), parameters([cscd(), cscd(name)], [segment(0, 0, 1, 0, 1)]))
    assert outcome.triple == "A/0D/02"


def test_the_lender_is_asked_for_each_initiator() -> None:
    """CVE-2020-28374: one initiator's right is not another's."""
    other, name = other_lun()
    entitled, stranger = Nexus(b"a"), Nexus(b"b")
    asked: list[tuple[Nexus, Designator]] = []

    def peers(nexus: Nexus, designator: Designator) -> Peer | None:
        asked.append((nexus, designator))
        return Peer(other, nexus) if nexus is entitled else None

    unit = disk()
    unit.peers = peers
    data = parameters([cscd(), cscd(name)], [segment(0, 5, 1, 0, 1)])
    steps = ((Read(0, space(512)), BLOCK), (Remote, None))
    assert copy(unit, data, *steps, nexus=entitled).status == 0
    assert copy(unit, data, nexus=stranger).triple == "A/0D/02"
    assert asked == [(nexus, Designator(1, 3, bytes.fromhex(name))) for nexus in (entitled, stranger)]


def lent(other: Unit) -> Unit:
    unit = disk()
    unit.peers = lambda nexus, _name: Peer(other, nexus)
    return unit


def test_operations_elsewhere_name_their_unit() -> None:
    other, name = other_lun()
    data = parameters([cscd(name), cscd()], [segment(0, 5, 1, 0, 1)])
    command = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    plan = lent(other).begin(Command(command, pieces_of(data, []), Nexus()))
    assert isinstance(plan, Generator)
    operations = list(plan)
    assert isinstance(operations[0], Remote)
    assert operations[0].unit is other
    assert isinstance(operations[0].operation, Read)
    assert isinstance(operations[1], Write)


def test_luns_of_different_block_sizes() -> None:
    # SPC-5 6.6.5.3: DC tells in whose blocks the segment counts
    other, name = other_lun(block_size=4096)
    devices = [cscd(), cscd(name, block_size=4096)]
    steps = ((Read(0, space(8192)), BLOCK * 16), (Remote, None))
    assert copy(lent(other), parameters(devices, [segment(0, 0, 16, 0, 1)]), *steps).status == 0
    assert copy(lent(other), parameters(devices, [segment(0, 0, 2, 0, 1, dc=True)]), *steps).status == 0
    assert copy(lent(other), parameters(devices, [segment(0, 0, 3, 0, 1)])).triple == "A/00/00"


def test_bytes_of_a_lun_with_larger_blocks() -> None:
    other, name = other_lun(block_size=4096)
    data = parameters([cscd(), cscd(name, block_size=4096)], [with_offsets(0, 512, 512, to_cscd=1)])
    command = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    plan = lent(other).begin(Command(command, pieces_of(data, []), Nexus()))
    assert isinstance(plan, Generator)
    source, before, after = plan
    assert isinstance(source, Read)
    assert isinstance(before, Remote)
    assert isinstance(after, Remote)
    assert before.operation == Read(4096, space(4096))
    assert after.operation == Write(4096, bytes_of(bytes(4096)))


def test_the_state_of_the_other_lun_counts() -> None:
    other, name = other_lun(capabilities=Capabilities())
    data = parameters([cscd(), cscd(name)], [segment(0, 0, 1, 0, 1)])
    assert copy(lent(other), data).triple == "7/27/00"
    other, _ = other_lun()
    other.medium.power(on=False)
    assert copy(lent(other), data).triple == "A/0D/02"


def test_the_reservations_of_the_other_lun_count() -> None:
    other, name = other_lun()
    other.reservations = Reservations()
    other.reservations.register((b"x", 1), 0, 1, ignore=False)
    other.reservations.reserve((b"x", 1), 1, Type.WRITE_EXCLUSIVE)
    data = parameters([cscd(), cscd(name)], [segment(0, 0, 1, 0, 1)])
    assert copy(lent(other), data).status == 0x18


# RECEIVE COPY RESULTS


def test_operating_parameters() -> None:
    # SPC-5 table 318
    data = results(disk(), 0x03, Nexus()).data
    assert int.from_bytes(data[0:4], "big") == len(data) - 4
    assert data[4] == 0x01  # SNLID
    assert data[8:12].hex() == "00100010"  # 16 CSCD and 16 segment descriptors
    assert int.from_bytes(data[12:16], "big") == 16 * 32 + 16 * 32
    assert int.from_bytes(data[16:20], "big") >= 0xFFFF * 512  # MAXIMUM SEGMENT LENGTH
    assert data[20:24] == bytes(4)  # no inline data
    assert data[37] == 9  # DATA SEGMENT GRANULARITY: 512
    assert data[43:].hex() == "03020ae4"  # IMPLEMENTED DESCRIPTOR LIST


def test_the_status_of_a_copy_is_told_once() -> None:
    # SPC-5 table 313: length 8, COPY STATUS 01h, segments processed, TRANSFER COUNT UNITS bytes, the count
    unit, nexus = disk(), Nexus()
    assert results(unit, 0x00, nexus).triple == "5/24/00"
    steps = ((Read, BLOCK), (Write, None))
    assert copy(unit, parameters([cscd()], [segment(0, 1, 1)]), *steps, nexus=nexus).status == 0
    assert results(unit, 0x00, Nexus()).triple == "5/24/00"  # another's
    assert results(unit, 0x00, nexus, list_id=2).triple == "5/24/00"
    assert results(unit, 0x00, nexus).data.hex(" ", 4) == "00000008 01000100 00000200"
    assert results(unit, 0x00, nexus).triple == "5/24/00"


def test_the_status_of_a_failed_copy() -> None:
    unit, nexus = disk(), Nexus()
    steps = ((Read, BLOCK), (Write, None), (Read, OSError(errno.EIO, "broken")))
    copy(unit, parameters([cscd()], [segment(0, 1, 1)] * 2), *steps, nexus=nexus)
    assert results(unit, 0x00, nexus).data.hex(" ", 4) == "00000008 02000100 00000200"


def test_large_counts_have_larger_units() -> None:
    # SPC-5 table 315: 01h is KiB
    unit, nexus = disk(), Nexus()
    for transferred, expected in (
        ((1 << 32) - 1, "00ffffffff"), (1 << 32, "0100400000"),
        (1 << 60, "0340000000"), (1 << 102, "06ffffffff"),
    ):  # fmt: skip
        unit.copies[nexus, 1] = CopyResults(1, 1, transferred)
        assert results(unit, 0x00, nexus).data[7:].hex() == expected


def test_discarded_results() -> None:
    unit, nexus = disk(), Nexus()
    for list_id, usage in ((1, DISCARD), (0, NONE)):
        assert copy(unit, parameters([cscd()], [], list_id=list_id, usage=usage), nexus=nexus).status == 0
    assert results(unit, 0x00, nexus).triple == "5/24/00"
    assert results(unit, 0x00, nexus, list_id=0).triple == "5/24/00"


def test_a_copy_in_progress() -> None:
    unit, nexus = disk(), Nexus()
    data = parameters([cscd()], [segment(0, 1, 1)])
    cdb = bytes.fromhex("83 00 0000000000000000") + len(data).to_bytes(4, "big") + b"\0\0"
    steps = unit.begin(Command(cdb, pieces_of(data, []), nexus))
    assert isinstance(steps, Generator)
    next(steps)
    for _ in range(2):  # and it stays known while it is
        assert results(unit, 0x00, nexus).data.hex(" ", 4) == "00000008 00000000 00000000"
    # SPC-5 6.6.1: a list identifier in use: 5/00/16 OPERATION IN PROGRESS
    assert copy(unit, data, nexus=nexus).triple == "5/00/16"
    steps.close()
    assert results(unit, 0x00, nexus).data[4] == 0x02


def test_the_oldest_results_make_room() -> None:
    unit, nexus = disk(), Nexus()
    for list_id in range(1, 21):
        copy(unit, parameters([cscd()], [segment(0, 1, 0)], list_id=list_id), nexus=nexus)
    assert results(unit, 0x00, nexus, list_id=4).triple == "5/24/00"
    assert results(unit, 0x00, nexus, list_id=5).status == 0


def test_results_go_with_their_nexus() -> None:
    unit, nexus = disk(), Nexus()
    copy(unit, parameters([cscd()], []), nexus=nexus)
    unit.disconnect(nexus)
    assert unit.copies == {}


def test_failed_segment_details() -> None:
    assert results(disk(), 0x04, Nexus()).data == bytes(4)
