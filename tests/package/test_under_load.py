"""What systemd, dpkg and signals do to the daemon while a disk is used: no command fails, no byte is wrong.

One load for all of these tests, judged at its end. The full count of restarts: TCMU_TEST_RESTARTS=20.
"""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cleanup
from support.configfs import Backstore
from support.deadline import command, eventually
from support.fio import Job, Verification, verifying
from support.loopback import Loopback

from .conftest import PACKAGE, UNIT, is_active, journal, systemctl

MIB = 1 << 20
RESTARTS = int(os.environ.get("TCMU_TEST_RESTARTS", "2"))
SETTINGS = Path("/etc/tcmu/tcmu-runner.toml")
WATCHDOG = Path("/run/systemd/system/tcmu-runner.service.d/watchdog.conf")


@pytest.fixture
def clean_slate() -> None:
    """The load stays."""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verification]:
    cleanup.everything()
    systemctl("start", UNIT)
    backstore = Backstore.create("vol0", f"file/{tmp_path_factory.mktemp('load')}/disk.img", 32 * MIB)
    backstore.enable()
    disk = Loopback().create().add(backstore)
    with verifying(Job(disk, 4 * MIB, rate=100)) as fio:  # dpkg, too, needs some of an emulated processor
        yield fio
    cleanup.everything()


@pytest.fixture(autouse=True)
def served(load: Verification) -> Iterator[None]:
    """Before and after each of them. So many restarts in a minute are else too many."""
    systemctl("reset-failed", UNIT)
    load.progress(50)
    yield
    load.progress(50)


def main_pid() -> int:
    return int(systemctl("show", "-P", "MainPID", UNIT))


def another_daemon(before: int) -> None:
    """Waits until another process than `before` serves."""
    eventually("another daemon", lambda: main_pid() not in (0, before) and is_active(), 120)


def test_restarts() -> None:
    for _ in range(RESTARTS):
        before = main_pid()
        command("systemctl", "reset-failed", UNIT)
        command("systemctl", "restart", UNIT, seconds=120)
        assert main_pid() != before


def test_a_daemon_that_was_killed_comes_back() -> None:
    os.kill(before := main_pid(), signal.SIGKILL)
    another_daemon(before)
    assert "devices wait for a daemon" in journal()  # ExecStopPost


def test_a_daemon_that_hangs_is_replaced() -> None:
    """By the watchdog, which would take longer than this test has."""
    WATCHDOG.parent.mkdir(exist_ok=True)
    WATCHDOG.write_text("[Service]\nWatchdogSec=10\n")
    systemctl("daemon-reload")
    systemctl("restart", UNIT)
    os.kill(before := main_pid(), signal.SIGSTOP)
    try:
        another_daemon(before)
    finally:
        WATCHDOG.unlink()
        systemctl("daemon-reload")


def test_broken_settings_stop_no_start() -> None:
    SETTINGS.write_text("[workers]\nprocesses = -1\n")
    try:
        systemctl("restart", UNIT)
    finally:
        SETTINGS.unlink()
    assert re.search(r"line 2: workers.processes = -1: write .*until it is corrected", journal())


def test_an_upgrade_in_place() -> None:
    before = main_pid()
    command("dpkg", "--install", PACKAGE, seconds=600)
    assert main_pid() not in (0, before)
