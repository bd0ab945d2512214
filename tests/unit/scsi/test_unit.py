from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Read
from tcmu_runner.scsi.sense import CAPACITY_CHANGED
from tcmu_runner.scsi.unit import Capabilities

from .play import disk, play, space

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
    nexus.raise_attention(CAPACITY_CHANGED)
    nexus.raise_attention(CAPACITY_CHANGED)
    assert play(disk(), TEST_UNIT_READY, nexus=nexus).triple == "6/2A/09"
    assert play(disk(), TEST_UNIT_READY, nexus=nexus).status == 0


def test_inquiry_leaves_a_unit_attention_pending() -> None:
    # SPC-5 6.7.1 and SAM-5 5.14: INQUIRY neither reports nor clears one
    unit, nexus = disk(), Nexus()
    nexus.raise_attention(CAPACITY_CHANGED)
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
