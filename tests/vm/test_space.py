"""A disk on a file system that fills up: what Linux is told, and what it makes of it."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import disk as bytes_of
from support import sg
from support.deadline import command, eventually
from support.filesystem import small
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.kernel_log import kernel_log
from support.loopback import Loopback

ROOM = 32 * MIB
SIZE = 2 * ROOM
DATA_PROTECT = 7  # sg3_utils(8)
REACHED = "thin provisioning soft threshold"  # 6/38/07 in Linux' words, and in those of sg3-utils


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("settings") / "tcmu-runner.toml"
    settings.write_text('[devices."user_0/*"]\nsoft_threshold = 50\n')
    return ("--settings", str(settings))


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for half of the disk."""
    with small(tmp_path / "narrow", ROOM) as directory:
        yield directory


def said(disk: Path) -> str:
    """To TEST UNIT READY."""
    return sg.raw(disk, "00" * 6).text.lower()


def test_space_runs_out(
    narrow: Path, make_backstore: MakeBackstore, loopback: Loopback, expected_log: ExpectedLog
) -> None:
    disk = loopback.add(make_backstore(f"file/{narrow}/disk.img", SIZE))
    assert "threshold percentage: 50" in command("sg_vpd", "--page=lbpv", disk).lower()
    with kernel_log() as log:
        bytes_of.write(disk, 0, b"a" * (3 * ROOM // 4))
        eventually("the kernel hears of the threshold", lambda: REACHED in said(disk) + log.text())
    ballast = narrow / "ballast"
    ballast.write_bytes(bytes(ROOM // 4 - MIB))
    expected_log(r"failed: OSError: \[Errno 28\]")
    with pytest.raises(OSError) as full:
        bytes_of.write(disk, ROOM, b"b" * (4 * MIB))
    assert full.value.errno == errno.ENOSPC  # 7/27/07, SPACE ALLOCATION FAILED WRITE PROTECT
    refused = sg.raw(disk, f"2a 00 {(SIZE - MIB) // 512:08x} 00 0800 00", send=b"c" * MIB)
    assert refused.status == DATA_PROTECT
    assert "space allocation failed write protect" in refused.text.lower()
    assert bytes_of.read(disk, 0, MIB) == b"a" * MIB
    ballast.unlink()
    bytes_of.write(disk, ROOM, b"b" * (4 * MIB))
    assert bytes_of.read(disk, ROOM, 4 * MIB) == b"b" * (4 * MIB)
