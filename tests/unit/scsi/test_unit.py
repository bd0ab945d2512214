from dataclasses import replace

import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import MeasureSpace, Read, Space
from tcmu_runner.scsi.sense import CAPACITY_CHANGED, NEXUS_LOSS, WRITE_ERROR
from tcmu_runner.scsi.unit import Capabilities, Limits, Unit
from tcmu_runner.testing.play import EVERYTHING, disk, play, space

TEST_UNIT_READY = "00 00 00 00 00 00"
WRITES = [
    "0a 00 0000 01 00", "2a 00 00000000 00 0001 00", "aa 00 00000000 00000001 00 00",
    "8a 00 0000000000000000 00000001 00 00", "41 00 00000000 00 0001 00",
    "93 00 0000000000000000 00000001 00 00",
]  # fmt: skip


def test_a_unit_attention_is_reported_once_to_each_nexus() -> None:
    # SAM-5 5.14: one CHECK CONDITION for each nexus, then the condition is gone
    unit, one, other = disk(), Nexus(), Nexus()
    unit.nexuses.update((one, other))
    unit.resize(unit.size * 2)
    for nexus in (one, other):
        assert play(unit, TEST_UNIT_READY, nexus=nexus).triple == "6/2A/09"  # CAPACITY DATA HAS CHANGED
        assert play(unit, TEST_UNIT_READY, nexus=nexus).status == 0


def test_a_unit_attention_is_queued_once_per_cause() -> None:
    nexus = Nexus()
    nexus.queue_unit_attention(CAPACITY_CHANGED)
    nexus.queue_unit_attention(CAPACITY_CHANGED)
    assert play(disk(), TEST_UNIT_READY, nexus=nexus).triple == "6/2A/09"
    assert play(disk(), TEST_UNIT_READY, nexus=nexus).status == 0


def test_inquiry_leaves_a_unit_attention_pending() -> None:
    # SPC-5 6.7.1 and SAM-5 5.14: INQUIRY neither reports nor clears one
    unit, nexus = disk(), Nexus()
    nexus.queue_unit_attention(CAPACITY_CHANGED)
    assert play(unit, "12 00 00 0024 00", room=36, nexus=nexus).status == 0
    assert play(unit, TEST_UNIT_READY, nexus=nexus).triple == "6/2A/09"


def test_a_resize_to_the_same_size_is_no_cause() -> None:
    unit, nexus = disk(), Nexus()
    unit.nexuses.add(nexus)
    unit.resize(unit.size)
    assert play(unit, TEST_UNIT_READY, nexus=nexus).status == 0


def test_the_new_size_holds_for_the_next_command() -> None:
    unit = disk(blocks=8)
    assert play(unit, "28 00 00000008 00 0001 00", room=512).triple == "5/21/00"
    unit.resize(16 * 512)
    step = (Read(8 * 512, space(512)), bytes(512))
    assert play(unit, "28 00 00000008 00 0001 00", step, room=512).status == 0


def test_a_read_only_storage_is_write_protected() -> None:
    # SBC-4 4.12: DATA PROTECT, 27/00 WRITE PROTECTED
    unit = disk(Capabilities())
    for cdb in WRITES:
        assert play(unit, cdb, out=bytes(512)).triple == "7/27/00", cdb


def test_software_write_protect() -> None:
    # SPC-5 7.5.8: SWP in the Control mode page
    unit = disk()
    parameters = bytes.fromhex("00 00 00 00 0a 0a 00 10 08 40 00 00 ff ff 00 00")
    assert play(unit, "15 10 00 00 10 00", out=parameters).status == 0
    for cdb in WRITES:
        assert play(unit, cdb, out=bytes(512)).triple == "7/27/00", cdb
    assert play(unit, "28 00 00000000 00 0001 00", (Read, bytes(512)), room=512).status == 0


def test_sense_follows_d_sense_as_it_stood_when_the_command_began() -> None:
    unit = disk()
    outcome = play(unit, "c1 00 00 00 00 00")
    assert outcome.command is not None
    assert not outcome.command.descriptor_sense
    parameters = bytes.fromhex("00 00 00 00 0a 0a 04 10 00 40 00 00 ff ff 00 00")
    assert play(unit, "15 10 00 00 10 00", out=parameters).status == 0
    outcome = play(unit, "c1 00 00 00 00 00")
    assert outcome.command is not None
    assert outcome.command.descriptor_sense


def test_a_deferred_error_is_told_to_everyone_with_the_next_command() -> None:
    # SPC-5 4.4.7: response code 71h; the command that meets it is not performed
    unit, one, other = disk(), Nexus(), Nexus()
    unit.connect(one)
    unit.connect(other)
    unit.defer(WRITE_ERROR)
    for nexus in (one, other):
        outcome = play(unit, "2a 00 00000000 00 0001 00", out=bytes(512), nexus=nexus)
        assert outcome.triple == "3/0C/00"
        assert outcome.sense is not None
        assert outcome.sense.encode()[0] == 0x71
        assert play(unit, TEST_UNIT_READY, nexus=nexus).status == 0


def test_the_threshold_of_space_is_told_once() -> None:
    # SBC-4 4.7.3.7: 6/38/07 THIN PROVISIONING SOFT THRESHOLD REACHED
    unit, nexus = disk(replace(EVERYTHING, space=True), limits=Limits(soft_threshold=80)), Nexus()
    assert unit.watches_space
    unit.connect(nexus)
    for used, told in ((79, False), (80, True), (90, False), (10, False), (85, True)):
        for operation in unit.check_space():
            assert isinstance(operation, MeasureSpace)
            operation.found = Space(used, 100 - used)
        outcome = play(unit, TEST_UNIT_READY, nexus=nexus)
        assert (outcome.status == 2 and outcome.triple == "6/38/07") == told


def test_without_a_threshold_or_a_measure_nobody_looks() -> None:
    assert not disk(Capabilities(space=True)).watches_space
    assert not disk(Capabilities(), limits=Limits(soft_threshold=80)).watches_space


def test_a_new_nexus_finds_its_unit_attention() -> None:
    # SAM-5 5.14 and 6.3: 29/00 after power on, 29/07 after the loss of an I_T nexus
    unit, nexus = disk(), Nexus()
    unit.connect(nexus, NEXUS_LOSS)
    assert play(unit, TEST_UNIT_READY, nexus=nexus).triple == "6/29/07"
    unit.disconnect(nexus)
    unit.resize(unit.size * 2)
    assert not nexus.attentions


def test_a_reset() -> None:
    # SAM-5 6.3.3: 6/29/03 BUS DEVICE RESET FUNCTION OCCURRED; mode parameters are the defaults again
    unit, nexus = disk(), Nexus()
    unit.connect(nexus)
    unit.mode.software_write_protect = True
    unit.reset()
    assert play(unit, TEST_UNIT_READY, nexus=nexus).triple == "6/29/03"
    assert not unit.read_only


def begun(unit: Unit, cdb: str) -> Command:
    command = Command(bytes.fromhex(cdb), [memoryview(bytearray(1024))], Nexus())
    unit.begin(command)
    return command


@pytest.mark.parametrize(
    ("cdb", "footprint"),
    [
        ("28 00 00000008 00 0002 00", (4096, 1024)),
        ("89 00 0000000000000008 000000 01 00 00", (4096, 512)),
        ("8e 00 0000000000000008 00000002 00 00", (4096, 1024)),
        ("42 00 00000000 00 0000 00", (0, 1024 * 512)),  # UNMAP: the ranges are in the data
        ("83 00 0000000000000000 00000000 00 00", (0, 1024 * 512)),
        ("00 00 00 00 00 00", None),
        ("12 00 00 0024 00", None),
    ],
)
def test_the_footprint_of_a_command(cdb: str, footprint: tuple[int, int] | None) -> None:
    unit = disk()
    assert unit.footprint(begun(unit, cdb)) == footprint


def test_a_command_that_has_not_begun_has_no_footprint() -> None:
    assert disk().footprint(Command(bytes(6), [], Nexus())) is None


def test_the_extent_of_a_command_that_has_not_begun() -> None:
    command = Command(bytes.fromhex("28 00 00000008 00 0002 00"), [], Nexus())
    assert disk().extent(command) == (4096, 1024)
