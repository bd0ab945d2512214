"""What a unit remembers, across the end of the process that serves it (docs/reference/unit-state.md)."""

import json
from dataclasses import replace

import pytest

from tcmu_runner.scsi import unit_state
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Flush, Read, WriteZeroes
from tcmu_runner.scsi.sense import CAPACITY_CHANGED, WRITE_ERROR, Sense
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import EVERYTHING, Step, disk, play

SENSE_CACHING, SENSE_CONTROL = "1a 08 08 00 ff 00", "1a 08 0a 00 ff 00"
# SPC-5 7.5.8 and SBC-4 6.5.6: the mode parameter header of MODE SELECT(6), then the page
WCE_OFF = bytes.fromhex("00000000 0812 00") + bytes(17)
PROTECTED_AND_D_SENSE = bytes.fromhex("00000000 0a0a 0410 0840 0000 ffff 0000")
TEST_UNIT_READY = "00 00 00 00 00 00"
READ_CAPACITY_10 = "25 00 00000000 00 0000 00"
ECHO = "3b 0a 00 000000 000004 00"


class Lives:
    """A unit behind LIO: with one nexus, and successors that know of it what was remembered last."""

    def __init__(self, capabilities: Capabilities = EVERYTHING) -> None:
        self.capabilities = capabilities
        self.remembered: str | None = None
        self.unit: Unit
        self.nexus: Nexus
        self.begin()

    def begin(self, state: unit_state.State | None = None, blocks: int = 1024) -> None:
        """The next process. state: all it finds; None: what was remembered."""
        known = json.loads(self.remembered) if state is None and self.remembered else state or {}
        self.unit, self.nexus = disk(self.capabilities, blocks=blocks), Nexus()
        self.unit.removable = True
        self.unit.nexuses = {self.nexus}
        unit_state.put_back(self.unit, self.nexus, known)
        self.unit.remember = self._remember
        self._remember()

    def _remember(self) -> None:
        self.remembered = json.dumps(unit_state.taken(self.unit, self.nexus))

    def play(self, cdb: str, *script: Step, out: bytes = b"", room: int = 0) -> object:
        """The data, or the sense as people write it."""
        outcome = play(self.unit, cdb, *script, out=out, room=room, nexus=self.nexus)
        return outcome.data if outcome.status == 0 else outcome.triple

    def caching(self) -> int:
        """Byte 2 of the caching page: WCE is 04h (SBC-4 table 221)."""
        data = self.play(SENSE_CACHING, room=64)
        assert isinstance(data, bytes)
        return data[4 + 2]


def test_a_write_cache_that_was_switched_off_stays_off() -> None:
    lives = Lives()
    assert lives.caching() == 0x04
    lives.play("15 10 00 00 18 00", (Flush, None), out=WCE_OFF)
    lives.begin()
    assert lives.caching() == 0
    assert lives.play(TEST_UNIT_READY) == b""  # nothing has changed, so nothing is announced


def test_it_is_remembered_before_the_command_ends() -> None:
    lives = Lives()
    play(lives.unit, "15 10 00 00 18 00", (Flush, OSError(5, "no")), out=WCE_OFF, nexus=lives.nexus)
    lives.begin()
    assert lives.caching() == 0


def test_write_protection_and_the_format_of_sense() -> None:
    lives = Lives()
    lives.play("15 10 00 00 10 00", out=PROTECTED_AND_D_SENSE)
    lives.begin()
    data = lives.play(SENSE_CONTROL, room=64)
    assert isinstance(data, bytes)
    # SPC-5 7.5.8: D_SENSE byte 2 bit 2, SWP byte 4 bit 3; SBC-4 6.5.1: WP in the header
    assert (data[2] & 0x80, data[4 + 2], data[4 + 4]) == (0x80, 0x04, 0x08)
    assert lives.play("2a 00 00000000 00 0001 00", out=bytes(512)) == "7/27/00"


def test_an_ejected_medium_stays_out() -> None:
    lives = Lives()
    lives.play("1b 00 00 00 02 00", (Flush, None))
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == "2/3A/00"  # SBC-4 5.31: MEDIUM NOT PRESENT


def test_a_stopped_unit_stays_stopped() -> None:
    lives = Lives()
    lives.unit.removable = False
    lives.play("1b 00 00 00 00 00", (Flush, None))
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == "2/04/02"  # SBC-4 5.31: INITIALIZING COMMAND REQUIRED
    lives.unit.removable = False
    assert lives.play("1b 00 00 00 01 00") == b""
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == b""


def test_removal_stays_prevented() -> None:
    lives = Lives()
    lives.play("1e 00 00 00 01 00")
    lives.begin()
    assert lives.play("1b 00 00 00 02 00") == "5/53/02"  # SBC-4 5.31: MEDIUM REMOVAL PREVENTED
    lives.play("1e 00 00 00 00 00")
    lives.begin()
    assert lives.play("1b 00 00 00 02 00", (Flush, None)) == b""


@pytest.mark.parametrize(
    "sense",
    [CAPACITY_CHANGED, replace(WRITE_ERROR, deferred=True, information=7), CAPACITY_CHANGED.at(3, 1)],
    ids=["a unit attention", "a deferred error", "with a field pointer"],
)
def test_what_initiators_have_not_been_informed_of_is_kept(sense: Sense) -> None:
    lives = Lives()
    lives.unit.queue_unit_attention(sense)
    lives.begin()
    assert list(lives.nexus.attentions) == [sense]
    assert lives.play(TEST_UNIT_READY) == f"{sense.key:X}/{sense.asc:02X}/{sense.ascq:02X}"
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == b""  # once


def test_request_sense_takes_one_off_for_good() -> None:
    lives = Lives()
    lives.unit.queue_unit_attention(CAPACITY_CHANGED)
    lives.play("03 00 00 00 12 00", room=18)
    lives.begin()
    assert not lives.nexus.attentions


def test_more_unit_attentions_than_are_kept_are_an_internal_reset() -> None:
    lives = Lives()
    for number in range(unit_state.MOST_ATTENTIONS + 1):
        lives.unit.queue_unit_attention(CAPACITY_CHANGED.with_information(number))
    lives.begin()
    assert len(lives.nexus.attentions) == unit_state.MOST_ATTENTIONS + 1
    assert lives.nexus.attentions[-1] == Sense(6, 0x29, 0x04)


@pytest.mark.parametrize(
    ("cdb", "out", "ending"),
    [
        ("04 10 00 00 00 00", "00020000", "3/31/01"),  # FORMAT UNIT, IMMED; SPC-5: FORMAT COMMAND FAILED
        ("48 83 00000000 00 0000 00", "", "3/31/03"),  # SANITIZE, CRYPTO ERASE: SANITIZE COMMAND FAILED
    ],
)
def test_what_was_being_erased_has_failed(cdb: str, out: str, ending: str) -> None:
    lives = Lives(replace(EVERYTHING, crypto_erase=True))
    lives.unit.spawn = lambda _steps: None  # its process ends before it gets anywhere
    lives.play(cdb, out=bytes.fromhex(out))
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == ending
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == ending


def test_a_failed_format_is_over_when_another_succeeds() -> None:
    lives = Lives()
    lives.begin({"erasing": {"sanitize": False, "allows_exit": False}})
    assert lives.play("28 00 00000000 00 0001 00", room=512) == "3/31/01"
    lives.play("04 00 00 00 00 00", (WriteZeroes, None))
    lives.begin()
    assert lives.play("28 00 00000000 00 0001 00", (Read, bytes(512)), room=512) == bytes(512)


@pytest.mark.parametrize(("allows_exit", "ending"), [(True, b""), (False, "3/31/03")])
def test_whether_a_failed_sanitize_may_be_left_is_kept(allows_exit: bool, ending: object) -> None:
    lives = Lives()
    lives.begin({"erasing": {"sanitize": True, "allows_exit": allows_exit}})
    assert lives.play("48 1f 00000000 00 0000 00") == ending  # SBC-4 5.30: EXIT FAILURE MODE


def test_another_size_is_announced() -> None:
    lives = Lives()
    lives.begin(blocks=2048)
    assert lives.play(TEST_UNIT_READY) == "6/2A/09"
    assert lives.play(READ_CAPACITY_10, room=8) == (2047).to_bytes(4, "big") + (512).to_bytes(4, "big")
    lives.begin(blocks=2048)
    assert lives.play(TEST_UNIT_READY) == b""


def test_other_limits_are_announced() -> None:
    lives = Lives()
    lives.capabilities = replace(EVERYTHING, unmap=False)  # other settings, another storage, another version
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == "6/3F/03"  # SPC-5: INQUIRY DATA HAS CHANGED
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == b""


@pytest.mark.parametrize(
    ("cdb", "out"), [(ECHO, b"abcd"), ("3b 02 00 000000 000004 00", b"abcd")], ids=["echo", "data"]
)
def test_buffers_are_lost_and_that_is_announced(cdb: str, out: bytes) -> None:
    lives = Lives()
    lives.play(cdb, out=out)
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == "6/29/04"  # SPC-5: DEVICE INTERNAL RESET
    lives.begin()
    assert lives.play(TEST_UNIT_READY) == b""


def test_results_of_self_tests_are_kept() -> None:
    lives = Lives()
    lives.play("1d 04 00 0000 00", (Read, bytes(512)))
    before = lives.play("4d 00 50 00 00 0000 0100 00", room=256)
    lives.begin()
    assert lives.unit.self_tests
    assert lives.play("4d 00 50 00 00 0000 0100 00", room=256) == before


def test_a_threshold_that_was_announced_is_not_announced_again() -> None:
    lives = Lives()
    lives.unit.short_of_space = True
    lives.unit.remember()
    lives.begin()
    assert lives.unit.short_of_space


def test_of_a_forgotten_unit_initiators_are_informed() -> None:
    lives = Lives()
    lives.begin(unit_state.FORGOTTEN)
    assert lives.play(TEST_UNIT_READY) == "6/29/04"
    assert lives.caching() == 0x04


def test_a_storage_without_a_cache_has_none_to_switch_off() -> None:
    lives = Lives(Capabilities(write=True))
    assert json.loads(lives.remembered or "")["write_through"] is False


def test_a_reset_leaves_the_write_cache_off() -> None:
    """Linux does not ask for WCE again after it has reset a unit."""
    lives = Lives()
    lives.play("15 10 00 00 18 00", (Flush, None), out=WCE_OFF)
    lives.play("15 10 00 00 10 00", out=PROTECTED_AND_D_SENSE)
    lives.unit.reset(attention=None)
    assert (lives.caching(), lives.unit.mode.software_write_protect) == (0, False)
    lives.begin()
    assert (lives.caching(), lives.unit.mode.software_write_protect) == (0, False)


def test_what_has_not_been_set_is_as_by_default() -> None:
    lives = Lives()
    fresh = disk()
    assert lives.unit.mode == fresh.mode
    assert lives.play(TEST_UNIT_READY) == b""
