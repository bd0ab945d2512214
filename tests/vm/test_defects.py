"""Defects of the C daemon that an initiator sees (prior-art 2.1), and what its users' tools expect."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import disk as raw
from support import sg
from support.daemon import Daemon
from support.deadline import command
from support.fixtures import ExpectedLog, MakeBackstore
from support.handlers import handler_path
from support.loopback import Loopback

MARK = b"\xee" * 65536


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    return handler_path()


@pytest.fixture
def lun(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> Path:
    return loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))


def test_unknown_opcodes_are_answered_at_once(lun: Path) -> None:
    """#8: C0 to FF and the reserved group were never completed; the initiator hung."""
    for opcode in (0x02, 0x20, *range(0x60, 0x7E), 0x99, *range(0xC0, 0x100)):
        reply = sg.raw(lun, f"{opcode:02x}" + "00" * 15)
        assert reply.status == sg.INVALID_OPCODE, f"{opcode:02x}: {reply.text}"


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


def unmap(lba: int, blocks: int) -> bytes:
    """The parameter list of UNMAP with one descriptor (SBC-4 5.39)."""
    return bytes.fromhex("0016 0010 00000000") + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4)


UNMAP = "42 00 00000000 00 0018 00"


def test_an_unmap_that_fails_is_not_good(
    make_backstore: MakeBackstore, loopback: Loopback, expected_log: ExpectedLog
) -> None:
    """#1: it returned GOOD."""
    expected_log(r"user_0/vol0: unmap of command 42\w+ failed: .*cannot give anything back")
    disk = loopback.add(make_backstore("stickyram/"))
    assert sg.raw(disk, UNMAP, send=unmap(0, 8)).status == sg.MEDIUM_OR_HARDWARE
    assert sg.raw(disk, UNMAP, send=unmap(1 << 62, 8)).status == sg.LBA_OUT_OF_RANGE
    assert sg.raw(disk, UNMAP, send=unmap(0, 0)).status == sg.GOOD  # nothing to do (SBC-4 5.39.3)


@pytest.mark.parametrize("lba", [0, 1, 7, 63])
def test_unmap_takes_what_was_asked_for(lun: Path, lba: int) -> None:
    """#3: with an alignment of 0 the first piece had a wrong length."""
    raw.write(lun, 0, MARK)
    assert sg.raw(lun, UNMAP, send=unmap(lba, 64)).status == sg.GOOD
    hole = bytes(64 * 512)
    assert raw.read(lun, 0, 65536) == MARK[: lba * 512] + hole + MARK[(lba + 64) * 512 :]


@pytest.mark.parametrize("cdb", ["c1" + "00" * 9, "7f 00000000000018 8123" + "00" * 22])
def test_a_late_command_of_any_length_is_told(
    cdb: str, daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:  # fmt: skip
    """#9: to log a late command whose CDB was not 6, 10, 12 or 16 bytes long ended the daemon."""
    cdb = cdb.replace(" ", "")
    late = rf"user_0/vol0: command {cdb} is late: not done after 1 s"
    expected_log(late)
    gate = tmp_path / "gate"
    disk = loopback.add(make_backstore(f"vendor/{gate};tcmur_cmd_time_out=1"))
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(sg.raw, disk, cdb)
        try:
            daemon.wait_for_log(late)
        finally:
            gate.touch()
        assert reply.result().status == sg.GOOD


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


TOOLS = {
    "sg_inq": "Vendor identification: LIO-ORG",
    "sg_vpd --all": "Block limits VPD page",
    "sg_modes --all": "Caching",
    "sg_opcodes": "Write[(]16[)]",
    "sg_readcap --16": "Last LBA=131071",
    "sg_sync": "",
    "sg_turs": "",
    "sg_start --stop": "",
    "sg_start --start": "",
    "sg_requests": "",
}


def test_tools_are_content(lun: Path) -> None:
    for line, told in TOOLS.items():
        output = command(*line.split(), lun)
        assert re.search(told, output, re.IGNORECASE), output
