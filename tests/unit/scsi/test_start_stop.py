import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Flush, Read
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import disk, play, space

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
    # SBC-4 5.31: a stop without NO_FLUSH writes the cache; stopped is 2/04/02 INITIALIZING COMMAND REQUIRED
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


# removable media (SBC-4 5.15, 5.31)

EJECT, LOAD = "1b 00 00 00 02 00", "1b 00 00 00 03 00"
PREVENT, ALLOW = "1e 00 0000 01 00", "1e 00 0000 00 00"


def removable() -> Unit:
    unit = disk()
    unit.removable = True
    return unit


def test_a_fixed_disk_cannot_be_ejected() -> None:
    unit = disk()
    assert play(unit, EJECT).triple == "5/24/00"
    assert play(unit, PREVENT).triple == "5/20/00"
    assert play(unit, "12 00 00 0024 00", room=36).data[1] & 0x80 == 0


def test_ejecting_and_loading() -> None:
    # SPC-5 table 149: RMB; SBC-4 table 119: LOEJ with START 0 ejects, with START 1 loads
    unit = removable()
    assert play(unit, "12 00 00 0024 00", room=36).data[1] & 0x80
    assert play(unit, EJECT, (Flush, None)).status == 0
    for cdb in ("00 00 00 00 00 00", READ, "25 00 00000000 0000 00 00", "35 06 00000000 00 0000 00"):
        assert play(unit, cdb, room=512).triple == "2/3A/00"  # MEDIUM NOT PRESENT
    assert play(unit, START).triple == "2/3A/00"
    assert play(unit, "03 00 00 00 12 00", room=18).data[12:14].hex() == "3a00"
    assert play(unit, LOAD).status == 0
    assert play(unit, "00 00 00 00 00 00").status == 0


def test_a_loaded_medium_is_told_to_the_others() -> None:
    # SBC-4 4.4: 6/28/00 NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED
    unit, mine, other = removable(), Nexus(), Nexus()
    unit.connect(mine)
    unit.connect(other)
    play(unit, EJECT, (Flush, None), nexus=mine)
    play(unit, LOAD, nexus=mine)
    play(unit, LOAD, nexus=mine)  # it was there already
    assert play(unit, "00 00 00 00 00 00", nexus=mine).status == 0
    assert play(unit, "00 00 00 00 00 00", nexus=other).triple == "6/28/00"
    assert play(unit, "00 00 00 00 00 00", nexus=other).status == 0


def test_removal_is_prevented_until_every_nexus_allows_it() -> None:
    # SBC-4 5.15: 5/53/02 MEDIUM REMOVAL PREVENTED
    unit, one, other = removable(), Nexus(), Nexus()
    for nexus in (one, other):
        unit.connect(nexus)
        assert play(unit, PREVENT, nexus=nexus).status == 0
    assert play(unit, EJECT, nexus=one).triple == "5/53/02"
    assert play(unit, ALLOW, nexus=one).status == 0
    assert play(unit, EJECT, nexus=one).triple == "5/53/02"
    assert play(unit, ALLOW, nexus=other).status == 0
    assert play(unit, EJECT, (Flush, None), nexus=one).status == 0


def test_prevention_ends_with_the_nexus_and_with_a_reset() -> None:
    for resets in (False, True):
        unit, one = removable(), Nexus()
        unit.connect(one)
        play(unit, PREVENT, nexus=one)
        if resets:
            unit.reset()
        else:
            unit.disconnect(one)
        assert play(unit, EJECT, (Flush, None)).status == 0


def test_a_medium_that_can_be_ejected_has_no_motor() -> None:
    unit = removable()
    assert play(unit, STOP, (Flush, None)).status == 0
    assert play(unit, "00 00 00 00 00 00").status == 0
    assert play(unit, START).status == 0


@pytest.mark.parametrize("condition", range(1, 16))
def test_power_conditions_change_nothing(condition: int) -> None:
    # SBC-4 5.31: with a POWER CONDITION, START and LOEJ are ignored
    unit = removable()
    assert play(unit, bytes((0x1B, 1, 0, 0x0F, condition << 4 | 0x02, 0))).status == 0
    assert play(unit, "00 00 00 00 00 00").status == 0
