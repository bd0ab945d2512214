"""What systemd does with the daemon, and whether handlers get what they need nevertheless."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import disk as raw
from support.configfs import Backstore
from support.deadline import attempt, command, eventually
from support.fio import Job, verifying
from support.loopback import Loopback

from .conftest import is_active, journal, systemctl

MIB = 1 << 20
UNIT = "tcmu-runner.service"
RESTARTS = int(os.environ.get("TCMU_TEST_RESTARTS", "2"))  # for CI; the full count is 20
PATTERN = b"\xa5" * 4096


def main_pid() -> int:
    return int(systemctl("show", "-P", "MainPID", UNIT))


def another_daemon(before: int) -> None:
    """Waits until another process than `before` serves."""
    eventually("another daemon", lambda: main_pid() not in (0, before) and is_active(), 120)


@pytest.fixture
def running() -> Iterator[None]:
    systemctl("restart", UNIT)
    yield
    systemctl("reset-failed", UNIT)


@pytest.mark.usefixtures("service")
def test_the_units_are_in_order() -> None:
    assert command("systemd-analyze", "verify", UNIT, seconds=120) == ""
    for restorer in ("target.service", "rtslib-fb-targetctl.service"):
        assert restorer in systemctl("show", "-P", "Before", UNIT).split()
    wanted = systemctl("show", "-P", "Wants", "rtslib-fb-targetctl.service").split()
    assert UNIT in wanted
    assert is_active()
    assert systemctl("is-enabled", UNIT).strip() == "enabled"


@pytest.mark.usefixtures("running")
def test_a_killed_daemon_comes_back_and_no_command_fails(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    backstore = Backstore.create("vol0", f"file/{image}", 32 * MIB)
    backstore.enable()
    disk = Loopback().create().add(backstore)
    with verifying(Job(disk, 16 * MIB)) as fio:
        for _ in range(2):
            fio.progress(100)
            before = main_pid()
            os.kill(before, signal.SIGKILL)
            another_daemon(before)
            fio.progress(100)
    assert "devices wait for a daemon" in journal()  # ExecStopPost


@pytest.mark.usefixtures("running")
def test_restarts_under_load_cost_no_error(tmp_path: Path) -> None:
    backstore = Backstore.create("vol0", f"file/{tmp_path}/disk.img", 32 * MIB)
    backstore.enable()
    disk = Loopback().create().add(backstore)
    with verifying(Job(disk, 8 * MIB)) as fio:
        for _ in range(RESTARTS):
            before = main_pid()
            command("systemctl", "reset-failed", UNIT)  # so many in a minute are else too many
            command("systemctl", "restart", UNIT, seconds=120)
            assert main_pid() != before
            fio.progress(50)


@pytest.mark.usefixtures("running")
def test_a_daemon_that_hangs_is_replaced() -> None:
    override = Path("/run/systemd/system/tcmu-runner.service.d/watchdog.conf")
    override.parent.mkdir(exist_ok=True)
    override.write_text("[Service]\nWatchdogSec=10\n")
    systemctl("daemon-reload")
    systemctl("restart", UNIT)
    before = main_pid()
    os.kill(before, signal.SIGSTOP)
    try:
        another_daemon(before)
    finally:
        override.unlink()
        systemctl("daemon-reload")
        systemctl("restart", UNIT)


@pytest.mark.usefixtures("service")
def test_after_a_stop_no_command_hangs() -> None:
    systemctl("stop", UNIT)
    backstore = Backstore.create("vol0", "ram/", 32 * MIB)
    backstore.enable()
    systemctl("start", UNIT)
    disk = Loopback().create().add(backstore)
    raw.write(disk, 0, PATTERN)
    assert raw.read(disk, 0, 4096) == PATTERN


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("directory", ["/home", "/tmp", "/srv", "/var/lib", "/mnt"])
def test_files_may_be_anywhere(directory: str) -> None:
    image = Path(directory) / "tcmu-test.img"
    if directory == "/mnt":  # a file system that comes after the daemon
        command("mount", "-t", "tmpfs", "none", "/mnt")
    try:
        backstore = Backstore.create("vol0", f"file/{image}", 32 * MIB)
        backstore.enable()
        disk = Loopback().create().add(backstore)
        raw.write(disk, 0, PATTERN)
        with image.open("rb") as file:
            assert file.read(4096) == PATTERN
        Loopback().delete()
        backstore.remove()
    finally:
        image.unlink(missing_ok=True)
        attempt("umount", "/mnt")


@pytest.mark.usefixtures("service")
def test_a_block_device_may_be_below(tmp_path: Path) -> None:
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(32 * MIB)
    loop = command("losetup", "--find", "--show", tmp_path / "disk.img").strip()
    try:
        backstore = Backstore.create("vol0", f"file/{loop}", 32 * MIB)
        backstore.enable()
        disk = Loopback().create().add(backstore)
        raw.write(disk, 0, PATTERN)
        assert raw.read(Path(loop), 0, 4096) == PATTERN
        Loopback().delete()
        backstore.remove()
    finally:
        command("losetup", "--detach", loop)


@pytest.mark.usefixtures("service")
def test_logs_are_rotated() -> None:
    log = Path("/var/log/tcmu-runner.log")
    command("logrotate", "--force", "/etc/logrotate.d/tcmu-runner")
    assert Path("/var/log/tcmu-runner.log.1.gz").exists()
    backstore = Backstore.create("rotated", "ram/", 32 * MIB)
    backstore.enable()
    eventually("the new log", lambda: log.exists() and "user_0/rotated" in log.read_text())
    assert oct(log.stat().st_mode & 0o777) == "0o600"
