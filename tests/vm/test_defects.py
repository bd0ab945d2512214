"""Defects of the C daemon that an initiator sees (prior-art 2.1), and what its users' tools expect."""

import re
from pathlib import Path

import pytest
from support import disk as raw
from support import sg
from support.deadline import command
from support.fixtures import MakeBackstore
from support.loopback import Loopback

MARK = b"\xee" * 65536


@pytest.fixture
def lun(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> Path:
    return loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))


@pytest.mark.parametrize("opcode", [0x02, 0x20, 0x7E, 0x99, 0xC0, 0xC1, 0xDF, 0xE0, 0xFF])
def test_unknown_opcodes_are_answered_at_once(lun: Path, opcode: int) -> None:
    """#8: C0 to FF and the reserved group were never completed; the initiator hung."""
    reply = sg.raw(lun, f"{opcode:02x}" + "00" * 15, seconds=10)
    assert "Invalid command operation code" in reply.text


def test_read_6_of_length_0_is_256_blocks(lun: Path) -> None:
    """#7: the C daemon answers with a hardware error (SBC-3 5.9: 0 means 256)."""
    raw.write(lun, 0, MARK + b"\x11" * 65536)
    reply = sg.raw(lun, "08 00 0000 00 00", receive=131072)
    assert reply.data == MARK + b"\x11" * 65536


def test_write_same_with_unmap_does_not_kill_the_daemon(lun: Path) -> None:
    """#2: an alignment of 0 divided by zero."""
    raw.write(lun, 0, MARK)
    reply = sg.raw(lun, "93 08 0000000000000000 00000040 00 00", send=bytes(512))
    assert reply.status == sg.GOOD
    assert raw.read(lun, 0, 65536) == bytes(32768) + MARK[32768:]


def test_an_unmap_that_fails_is_not_good(lun: Path) -> None:
    """#1: a failed UNMAP returned GOOD. Here: beyond the end of the disk."""
    parameters = bytes.fromhex("0016 0010 00000000  7fffffffffffffff 00000008 00000000")
    reply = sg.raw(lun, "42 00 00000000 00 0018 00", send=parameters)
    assert "Logical block address out of range" in reply.text


def test_mode_sense_minds_page_control(lun: Path) -> None:
    """#12: changeable values were answered with current ones (SPC-5 6.14)."""
    current = sg.raw(lun, "1a 08 08 00 ff 00", receive=255).data
    changeable = sg.raw(lun, "1a 08 48 00 ff 00", receive=255).data
    assert (current[4] & 0x3F, current[6] & 0x04) == (0x08, 0x04)  # page 08: WCE is on ...
    assert changeable[6:24] == b"\x04" + bytes(17)  # ... and the only bit that can be changed


@pytest.mark.parametrize(("cdb", "answer"), [("12 00 00 00ff 00", 74), ("12 01 00 00ff 00", 16)])
def test_no_bytes_of_earlier_commands_come_back(lun: Path, cdb: str, answer: int) -> None:
    """The C daemon leaks what the buffer held before behind its INQUIRY answers."""
    for _ in range(4):
        raw.write(lun, 0, MARK)
        reply = sg.raw(lun, cdb, receive=255)
        assert b"\xee" not in reply.data
    assert sg.raw(lun, "00 00 00 00 00 00", receive=4096).data.count(b"\xee") == 0


def test_a_transfer_shorter_than_the_cdb_says(lun: Path) -> None:
    """Reads are cut to the transport's length; writes are refused, and change nothing."""
    raw.write(lun, 0, MARK)
    assert sg.raw(lun, "28 00 00000000 00 0008 00", receive=512).data == MARK[:512]
    reply = sg.raw(lun, "2a 00 00000000 00 0008 00", send=bytes(512))
    assert "Invalid field in cdb" in reply.text
    assert raw.read(lun, 0, 4096) == MARK[:4096]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("sg_inq",), "Vendor identification: LIO-ORG"),
        (("sg_vpd", "--all"), "Block limits VPD page"),
        (("sg_modes", "-a"), "Caching"),
        (("sg_opcodes",), "Write\\(16\\)"),
        (("sg_readcap", "--16"), "Last LBA=131071"),
        (("sg_sync",), ""),
        (("sg_turs", "-v"), ""),
        (("sg_start", "--stop"), ""),
        (("sg_start", "--start"), ""),
        (("sg_requests",), "No Sense"),
    ],
)
def test_tools_are_content(lun: Path, argv: tuple[str, ...], told: str) -> None:
    output = command(*argv, lun)
    assert re.search(told, output, re.IGNORECASE), output
    command("sg_start", "--start", lun)
