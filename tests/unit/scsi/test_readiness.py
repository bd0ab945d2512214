from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Flush, Read
from tcmu_runner.scsi.unit import Capabilities

from .play import disk, play, space

START, STOP = "1b 00 00 00 01 00", "1b 00 00 00 00 00"
READ = "28 00 00000000 00 0001 00"


def test_test_unit_ready() -> None:
    assert play(disk(), "00 00 00 00 00 00").status == 0


def test_request_sense_without_anything_to_tell() -> None:
    # SPC-5 6.39: NO SENSE as parameter data, GOOD status
    outcome = play(disk(), "03 00 00 00 12 00", room=18)
    assert outcome.data.hex(" ") == "70 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 00 00 00"


def test_request_sense_in_descriptor_format() -> None:
    # SPC-5 6.39: DESC asks for 72h
    assert play(disk(), "03 01 00 00 fc 00", room=252).data.hex(" ") == "72 00 00 00 00 00 00 00"


def test_request_sense_takes_a_unit_attention_away() -> None:
    unit, nexus = disk(), Nexus()
    unit.nexuses.add(nexus)
    unit.resize(unit.size * 2)
    outcome = play(unit, "03 00 00 00 12 00", room=18, nexus=nexus)
    assert (outcome.data[2], outcome.data[12], outcome.data[13]) == (0x06, 0x2A, 0x09)
    assert play(unit, "00 00 00 00 00 00", nexus=nexus).status == 0


def test_stopping_empties_the_cache_and_ends_readiness() -> None:
    # SBC-4 5.36: a stop without NO_FLUSH writes the cache; stopped is 2/04/02 INITIALIZING COMMAND REQUIRED
    unit = disk()
    assert play(unit, STOP, (Flush, None)).status == 0
    assert play(unit, "00 00 00 00 00 00").triple == "2/04/02"
    assert play(unit, READ, room=512).triple == "2/04/02"
    assert play(unit, "03 00 00 00 12 00", room=18).data[12:14].hex() == "0402"
    assert play(unit, START).status == 0
    assert play(unit, READ, (Read(0, space(512)), bytes(512)), room=512).status == 0


def test_stopping_with_no_flush_does_not_touch_the_cache() -> None:
    assert play(disk(), "1b 00 00 00 04 00").status == 0


def test_stopping_a_storage_without_cache() -> None:
    assert play(disk(Capabilities(write=True)), STOP).status == 0


def test_inquiry_works_on_a_stopped_unit() -> None:
    unit = disk(Capabilities())
    play(unit, STOP)
    assert play(unit, "12 00 00 0024 00", room=36).status == 0
