import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Flush, Write
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import disk, play

SENSE_6 = "1a 08 {:02x} {:02x} ff 00"  # DBD set


def page(unit: Unit, code: int, subpage: int = 0, control: int = 0) -> bytes:
    outcome = play(unit, SENSE_6.format(control << 6 | code, subpage), room=255)
    assert outcome.status == 0
    assert outcome.data[0] == len(outcome.data) - 1  # SPC-5 table 452: MODE DATA LENGTH
    return outcome.data[4:]


def test_caching() -> None:
    # SBC-4 6.5.6 table 221: page 08h, length 12h, WCE is bit 2 of byte 2
    assert page(disk(), 0x08)[:3].hex() == "081204"
    assert page(disk(Capabilities(write=True)), 0x08)[:3].hex() == "081200"


def test_changeable_values_are_a_mask() -> None:
    """prior-art 2.1 #12: MODE SENSE ignored page control. SPC-5 6.14: PC 01b returns what can change."""
    assert page(disk(), 0x08, control=1).hex() == "081204" + "00" * 17
    assert page(disk(Capabilities(write=True)), 0x08, control=1).hex() == "081200" + "00" * 17
    # SPC-5 7.5.8: D_SENSE byte 2 bit 2, SWP byte 4 bit 3
    assert page(disk(), 0x0A, control=1).hex() == "0a0a04000800000000000000"
    assert page(disk(), 0x01, control=1).hex() == "010a" + "00" * 10


def test_default_values_do_not_follow_the_current_ones() -> None:
    """prior-art 2.1 #12."""
    unit = disk()
    off = bytes(4) + page(unit, 0x08)[:2] + bytes((0,)) + page(unit, 0x08)[3:]
    assert play(unit, "15 10 00 00 18 00", (Flush, None), out=off).status == 0
    assert page(unit, 0x08)[2] == 0x00
    assert page(unit, 0x08, control=2)[2] == 0x04


def test_saved_values_are_not_supported() -> None:
    """prior-art 2.1 #12. SPC-5 6.14: 5/39/00 SAVING PARAMETERS NOT SUPPORTED."""
    assert play(disk(), SENSE_6.format(0xC8, 0), room=255).triple == "5/39/00"


def test_all_pages_come_in_order() -> None:
    # SPC-5 6.14: page 3Fh is all pages, in ascending order
    data, found = page(disk(), 0x3F), []
    while data:
        found.append(data[0] & 0x3F)
        data = data[2 + data[1] :]
    assert found == sorted(found)
    assert {0x01, 0x08, 0x0A, 0x1C} <= set(found)


def test_all_pages_and_subpages() -> None:
    data, found = page(disk(), 0x3F, 0xFF), []
    while data:
        if data[0] & 0x40:  # SPC-5 table 457: SPF, then the subpage and a two byte length
            found.append((data[0] & 0x3F, data[1]))
            data = data[4 + int.from_bytes(data[2:4], "big") :]
        else:
            found.append((data[0] & 0x3F, 0))
            data = data[2 + data[1] :]
    assert found == sorted(found)
    assert (0x0A, 1) in found


def test_a_subpage_of_its_own() -> None:
    # SPC-5 7.5.9: 0Ah/01h is 32 bytes long: page length 1Ch
    assert page(disk(), 0x0A, 0x01)[:4].hex() == "4a01001c"
    assert len(page(disk(), 0x0A, 0x01)) == 32


@pytest.mark.parametrize(("code", "subpage"), [(0x02, 0), (0x08, 1), (0x0A, 0x77), (0x3F, 1), (0x2A, 0xFF)])
def test_pages_that_do_not_exist(code: int, subpage: int) -> None:
    assert play(disk(), SENSE_6.format(code, subpage), room=255).triple == "5/24/00"


def test_the_short_block_descriptor() -> None:
    # SBC-4 6.5.2.2 table 216: number of blocks, reserved, block length
    data = play(disk(blocks=0x1000, block_size=4096), "1a 00 08 00 ff 00", room=255).data
    assert data[3] == 8
    assert data[4:12].hex() == "0000100000001000"


def test_the_short_block_descriptor_of_a_large_disk() -> None:
    # SBC-4 6.5.2.2: FFFFFFFFh where the number does not fit
    data = play(disk(blocks=1 << 33), "1a 00 08 00 ff 00", room=255).data
    assert data[4:8].hex() == "ffffffff"


def test_the_long_block_descriptor() -> None:
    # SBC-4 6.5.2.3 table 217, LONGLBA is bit 0 of byte 4 of the header (SPC-5 table 453)
    data = play(disk(blocks=1 << 33, block_size=4096), "5a 10 08 00 000000 00ff 00", room=255).data
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    assert data[4] == 1
    assert data[6:8].hex() == "0010"
    assert data[8:24].hex(" ", 4) == "00000002 00000000 00000000 00001000"


def test_write_protection_and_dpo_fua_in_the_header() -> None:
    # SBC-4 6.5.1 table 214: WP 80h, DPOFUA 10h
    assert play(disk(), "1a 08 08 00 ff 00", room=255).data[2] == 0x10
    assert play(disk(Capabilities()), "1a 08 08 00 ff 00", room=255).data[2] == 0x90
    assert play(disk(), "5a 08 08 00 000000 00ff 00", room=255).data[3] == 0x10


def test_the_answer_is_cut() -> None:
    for allocation in (0, 1, 4, 23):
        assert len(play(disk(), bytes((0x1A, 8, 8, 0, allocation, 0)), room=255).data) == allocation


def select(unit: Unit, parameters: str, nexus: Nexus | None = None) -> str:
    out = bytes.fromhex(parameters)
    outcome = play(unit, bytes((0x15, 0x10, 0, 0, len(out), 0)), out=out, nexus=nexus)
    return "good" if outcome.status == 0 else outcome.triple


CONTROL_WITH_SWP = "0a 0a 00 10 08 40 0000 ffff 0000"


def test_switching_the_write_cache_off_empties_it() -> None:
    # SBC-4 6.5.6: WCE from one to zero writes what is cached; then every write is through
    unit = disk()
    caching = "08 12 00" + page(unit, 0x08)[3:].hex()
    parameters = bytes.fromhex("00 00 00 00" + caching)
    assert play(unit, "15 10 00 00 18 00", (Flush, None), out=parameters).status == 0
    outcome = play(unit, "2a 00 00000000 00 0001 00", (Write, None), out=bytes(512))
    assert outcome.status == 0


def test_a_select_tells_the_other_initiators() -> None:
    # SPC-5 6.12: 6/2A/01 MODE PARAMETERS CHANGED for every nexus but the one that did it
    unit, mine, other = disk(), Nexus(), Nexus()
    unit.nexuses.update((mine, other))
    assert select(unit, "00 00 00 00" + CONTROL_WITH_SWP, mine) == "good"
    assert play(unit, "00 00 00 00 00 00", nexus=mine).status == 0
    assert play(unit, "00 00 00 00 00 00", nexus=other).triple == "6/2A/01"


def test_a_select_that_changes_nothing_tells_nobody() -> None:
    unit, mine, other = disk(), Nexus(), Nexus()
    unit.nexuses.update((mine, other))
    assert select(unit, "00 00 00 00" + page(unit, 0x0A).hex(), mine) == "good"
    assert play(unit, "00 00 00 00 00 00", nexus=other).status == 0


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("00 00 00", "5/1A/00"),  # shorter than the header
        ("00 00 00 00 0a 0a 00", "5/1A/00"),  # the page ends too early
        ("00 00 00 00 02 0e" + "00" * 14, "5/26/00"),  # no such page
        ("00 00 00 00 0a 0b 00 10 08 40 0000 ffff 0000 00", "5/26/00"),  # wrong page length
        ("00 00 00 00 0a 0a 01 10 00 40 0000 ffff 0000", "5/26/00"),  # a bit that cannot change (RLEC)
        ("00 00 00 08 00000000 00000400 0a 0a 00 10 00 40 0000 ffff 0000", "5/26/00"),  # another block length
        ("00 00 00 04 00000000", "5/26/00"),  # a descriptor of impossible length
        ("00 00 00 00 4a 01", "5/1A/00"),
        ("00 00 00 00 4a", "5/1A/00"),
    ],
)
def test_wrong_parameter_lists(parameters: str, why: str) -> None:
    assert select(disk(), parameters) == why


def test_a_refused_select_changes_nothing() -> None:
    # SPC-5 6.12: no change where any field is wrong
    unit = disk()
    assert select(unit, "00 00 00 00" + CONTROL_WITH_SWP + "02 0e" + "00" * 14) == "5/26/00"
    assert page(unit, 0x0A)[4] == 0


def test_a_block_descriptor_that_says_what_is_so() -> None:
    assert select(disk(), "00 00 00 08 00000400 00000200" + CONTROL_WITH_SWP) == "good"
    assert select(disk(), "00 00 00 08 00000000 00000200" + CONTROL_WITH_SWP) == "good"


def test_select_10_with_the_long_descriptor() -> None:
    out = bytes.fromhex("0000 00 00 01 00 0010 0000000000000400 00000000 00000200" + CONTROL_WITH_SWP)
    unit = disk()
    cdb = bytes.fromhex("55 10 00 00 000000") + len(out).to_bytes(2, "big") + b"\0"
    assert play(unit, cdb, out=out).status == 0
    assert page(unit, 0x0A)[4] == 0x08


def test_no_parameter_list_is_no_error() -> None:
    # SPC-5 6.12: PARAMETER LIST LENGTH zero
    assert play(disk(), "15 10 00 00 00 00").status == 0


def test_fewer_parameters_than_announced() -> None:
    assert play(disk(), "15 10 00 00 18 00", out=bytes(8)).triple == "5/1A/00"


def test_saving_pages_is_refused() -> None:
    # SPC-5 6.12: SP without support: 5/24/00
    assert play(disk(), "15 11 00 00 00 00").triple == "5/24/00"
