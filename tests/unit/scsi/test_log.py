from dataclasses import replace

import pytest

from tcmu_runner.scsi.operations import MeasureSpace, Read, Space
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.testing.play import EVERYTHING, Ending, Step, disk, play

THIN = (MeasureSpace, Space(used=1 << 20, available=3 << 20))


def sense(
    unit: Unit, page: int, *script: Step, subpage: int = 0, control: int = 1, pointer: int = 0
) -> Ending:
    cdb = bytes((0x4D, 0, control << 6 | page, subpage, 0)) + pointer.to_bytes(2, "big") + b"\x04\x00\0"
    return play(unit, cdb, *script, room=1024)


def thin() -> Unit:
    return disk(replace(EVERYTHING, space=True))


def test_supported_pages() -> None:
    # SPC-5 7.3.2: page 00h lists them in ascending order
    assert sense(disk(), 0x00).data.hex(" ") == "00 00 00 04 00 0d 10 2f"
    assert sense(thin(), 0x00).data.hex(" ") == "00 00 00 05 00 0c 0d 10 2f"


def test_supported_pages_and_subpages() -> None:
    # SPC-5 7.3.3: SPF 40h; pairs of page and subpage
    assert sense(disk(), 0x00, subpage=0xFF).data.hex(" ") == "40 ff 00 0a 00 00 00 ff 0d 00 10 00 2f 00"


def test_every_announced_page_can_be_read() -> None:
    unit = thin()
    for code in sense(unit, 0x00).data[4:]:
        data = sense(unit, code, *[THIN] * (code == 0x0C)).data
        assert data[0] == code
        assert int.from_bytes(data[2:4], "big") == len(data) - 4


def test_logical_block_provisioning() -> None:
    # SBC-4 6.4.5: 0001h available, 0002h used resource count, in blocks; FORMAT AND LINKING 11b, length 8
    assert sense(thin(), 0x0C, THIN).data.hex(" ", 4) == (
        "0c000018 00010308 00001800 02000000 00020308 00000800 01000000"
    )
    assert sense(disk(), 0x0C).triple == "5/24/00"


def test_temperature() -> None:
    # SPC-5 7.3.21: FFh: no valid temperature
    assert sense(disk(), 0x0D).data.hex(" ") == "0d 00 00 0c 00 00 03 02 00 ff 00 01 03 02 00 ff"


def test_informational_exceptions() -> None:
    # SBC-4 6.4.4: no exception, no temperature
    assert sense(disk(), 0x2F).data.hex(" ") == "2f 00 00 08 00 00 03 04 00 00 ff 00"


def test_self_test_results() -> None:
    # SPC-5 7.3.19: twenty parameters of 16 bytes, the newest first; byte 4 is self-test code and result
    unit = disk()
    play(unit, "1d 20 00 0000 00", (Read, bytes(512)))
    play(unit, "1d c0 00 0000 00", (Read, OSError(5, "broken")))
    data = sense(unit, 0x10).data
    assert len(data) == 4 + 20 * 20
    assert data[4:9].hex() == "00010310c7"  # extended, foreground; another segment failed
    assert data[24:29].hex() == "0002031020"
    assert data[44:49].hex() == "0003031000"


def test_the_parameter_pointer() -> None:
    # SPC-5 6.8.1: from that parameter on; behind the last: 5/24/00
    assert sense(disk(), 0x0D, pointer=1).data.hex(" ") == "0d 00 00 06 00 01 03 02 00 ff"
    assert sense(disk(), 0x0D, pointer=2).triple == "5/24/00"


@pytest.mark.parametrize(("page", "subpage"), [(0x01, 0), (0x0D, 1), (0x3F, 0), (0x0D, 0xFF)])
def test_unknown_pages(page: int, subpage: int) -> None:
    assert sense(disk(), page, subpage=subpage).triple == "5/24/00"


@pytest.mark.parametrize(("control", "ok"), [(0, True), (1, True), (2, False), (3, False)])
def test_page_control(control: int, ok: bool) -> None:
    assert (sense(disk(), 0x0D, control=control).status == 0) == ok


def test_saving_is_not_supported() -> None:
    assert play(disk(), "4d 01 4d 00 00 0000 00ff 00", room=255).triple == "5/39/00"
    assert play(disk(), "4c 01 00 00 000000 0000 00").triple == "5/24/00"


def test_log_select() -> None:
    # SPC-5 6.9: PCR (02h) resets what can be reset; there are no parameters to set
    assert play(disk(), "4c 02 40 00 000000 0000 00").status == 0
    assert play(disk(), "4c 02 4d 00 000000 0000 00").status == 0
    assert play(disk(), "4c 02 41 00 000000 0000 00").triple == "5/24/00"
    assert play(disk(), "4c 00 40 00 000000 0004 00", out=bytes(4)).triple == "5/24/00"


def test_counts_that_do_not_fit() -> None:
    full = MeasureSpace, Space(used=1 << 60, available=0)
    assert sense(thin(), 0x0C, full).data[-8:].hex() == "ffffffff01000000"
