import errno

import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.operations import Read
from tcmu_runner.testing.play import disk, play, space


def test_the_default_self_test() -> None:
    # SPC-5 6.42: SELFTEST (bit 2)
    assert play(disk(), "1d 04 00 0000 00", (Read(0, space(512)), bytes(512))).status == 0


@pytest.mark.parametrize("code", [1, 2, 5, 6])
def test_self_tests(code: int) -> None:
    assert play(disk(), bytes((0x1D, code << 5, 0, 0, 0, 0)), (Read, bytes(512))).status == 0


@pytest.mark.parametrize("code", [3, 4, 7])
def test_other_codes(code: int) -> None:
    # 100b aborts a background self-test, of which there is none; 011b and 111b are reserved
    assert play(disk(), bytes((0x1D, code << 5, 0, 0, 0, 0))).triple == "5/24/00"


def test_a_failed_self_test() -> None:
    # SPC-5 6.42: 4/3E/03 LOGICAL UNIT FAILED SELF-TEST
    outcome = play(disk(), "1d 04 00 0000 00", (Read, OSError(errno.EIO, "broken")))
    assert outcome.triple == "4/3E/03"


def test_combinations_that_make_no_sense() -> None:
    assert play(disk(), "1d 24 00 0000 00").triple == "5/24/00"
    assert play(disk(), "1d 20 00 0004 00", out=bytes(4)).triple == "5/24/00"


def test_diagnostic_pages() -> None:
    # SPC-5 7.2.4: page 00h lists the pages: only itself
    assert play(disk(), "1d 10 00 0000 00").status == 0
    assert play(disk(), "1d 10 00 0004 00", out=bytes(4)).status == 0
    assert play(disk(), "1d 10 00 0004 00", out=b"\0\xff\0\0").status == 0  # reserved
    assert play(disk(), "1d 10 00 0004 00", out=b"\x40\0\0\0").triple == "5/26/00"
    assert play(disk(), "1d 10 00 0004 00", out=b"\0\0\0\1").triple == "5/26/00"
    assert play(disk(), "1d 10 00 0004 00", out=bytes(3)).triple == "5/1A/00"
    assert play(disk(), "1c 01 00 00ff 00", room=255).data.hex(" ") == "00 00 00 01 00"
    assert play(disk(), "1c 00 00 00ff 00", room=255).data.hex(" ") == "00 00 00 01 00"
    assert play(disk(), "1c 01 40 00ff 00", room=255).triple == "5/24/00"


def test_buffer_descriptors() -> None:
    # SPC-5 tables 254 and 258: OFFSET BOUNDARY, BUFFER CAPACITY; echo: EBOS, capacity
    assert play(disk(), "3c 03 00 000000 000004 00", room=4).data.hex() == "00010000"
    assert play(disk(), "3c 03 01 000000 000004 00", room=4).data.hex() == "00000000"
    assert play(disk(), "3c 0b 00 000000 000004 00", room=4).data.hex() == "00001000"


def test_data_is_kept() -> None:
    unit = disk()
    assert play(unit, "3b 02 00 000004 000003 00", out=b"abc").status == 0
    assert play(unit, "3c 02 00 000000 000009 00", room=9).data == b"\0\0\0\0abc\0\0"
    assert play(unit, "3c 02 00 000005 000001 00", room=9).data == b"b"
    assert play(unit, "3b 02 00 000000 000005 00", out=b"12345").status == 0
    assert play(unit, "3c 02 00 000000 000007 00", room=9).data == b"12345bc"


def test_a_fresh_buffer_is_empty() -> None:
    assert play(disk(), "3c 02 00 000000 000008 00", room=8).data == bytes(8)


def test_echo_is_each_initiator_s_own() -> None:
    # SPC-5 6.18.9: before the same nexus has written, there is nothing to read
    unit, one, other = disk(), Nexus(), Nexus()
    assert play(unit, "3b 0a 00 000000 000003 00", out=b"abc", nexus=one).status == 0
    assert play(unit, "3c 0a 00 000000 000010 00", room=16, nexus=one).data == b"abc"
    assert play(unit, "3c 0a 00 000000 000010 00", room=16, nexus=other).triple == "5/24/00"


@pytest.mark.parametrize(
    ("cdb", "size"),
    [
        ("3c 00 00 000000 000004 00", 0),  # no such mode
        ("3c 02 01 000000 000004 00", 0),  # no such buffer
        ("3c 02 00 010001 000004 00", 0),  # an offset behind the end
        ("3b 05 00 000000 000004 00", 4),  # download microcode
        ("3b 02 01 000000 000004 00", 4),
        ("3b 02 00 00fffd 000004 00", 4),  # beyond the end
        ("3b 02 00 010001 000000 00", 0),
        ("3b 02 00 000000 000004 00", 3),  # less data than announced
        ("3b 0a 00 000000 001001 00", 4097),  # more than the echo buffer holds
    ],
)
def test_wrong_buffers(cdb: str, size: int) -> None:
    assert play(disk(), cdb, out=bytes(size), room=4).triple == "5/24/00"
