"""The machine, the daemon in it, and the helpers that the other tests here stand on."""

import errno
import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.configfs import Backstore
from support.daemon import Daemon, Expectation, unexpected
from support.deadline import GENEROUS, CommandError, StuckError, command, within
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.iscsi import Initiator, IscsiTarget
from support.loopback import Loopback

PATTERN = bytes(range(256)) * 4096  # 1 MiB


def write_and_read_back(disk: Path) -> None:
    """Through the device, not the page cache: written out, the cache dropped, read again."""
    with disk.open("r+b", buffering=0) as device:
        assert device.write(PATTERN) == len(PATTERN)
        os.fsync(device.fileno())
        os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        device.seek(0)
        assert device.read(len(PATTERN)) == PATTERN


def test_the_kernel_is_a_real_one_with_lio() -> None:
    assert Path("/sys/module/target_core_user/parameters/reset_netlink").exists()
    vendors = [Path("/sys/class/dmi/id/sys_vendor"), Path("/proc/cpuinfo")]
    assert re.search("QEMU|User Mode Linux", "".join(path.read_text() for path in vendors if path.exists()))


def test_our_daemon_is_the_tcmu_runner_in_the_path() -> None:
    assert command("sh", "-c", "command -v tcmu-runner").strip() == "/opt/tcmu-runner/bin/tcmu-runner"
    assert command("tcmu-runner", "--version").startswith("tcmu-runner 2.")


def test_the_c_daemon_is_there_and_nothing_starts_it() -> None:
    assert os.access("/usr/bin/tcmu-runner", os.X_OK)
    with pytest.raises(CommandError, match="masked"):
        command("systemctl", "start", "tcmu-runner")


def test_a_disk_of_ours_through_tcm_loop(make_backstore: MakeBackstore, loopback: Loopback) -> None:
    disk = loopback.add(make_backstore("ram/", 32 * MIB))
    assert command("blockdev", "--getsize64", disk).strip() == str(32 * MIB)
    within(GENEROUS, write_and_read_back, disk)


def test_two_initiators_of_one_iscsi_target(make_backstore: MakeBackstore) -> None:
    target = IscsiTarget().create(make_backstore("ram/"))
    first, second = (Initiator(number).login(target) for number in range(2))
    assert first != second
    within(GENEROUS, write_and_read_back, first)
    with second.open("rb", buffering=0) as device:
        assert device.read(len(PATTERN)) == PATTERN


def test_a_kernel_refusal_keeps_its_errno(make_backstore: MakeBackstore) -> None:
    backstore = make_backstore("ram/")
    with pytest.raises(OSError) as refusal:
        backstore.enable()  # a second time
    assert refusal.value.errno == errno.EEXIST
    assert refusal.value.filename == str(backstore.path / "enable")


def test_an_enable_that_nobody_answers_is_rescued(daemon: Daemon, expected_log: ExpectedLog) -> None:
    os.killpg(daemon.pid, signal.SIGSTOP)
    with pytest.raises(StuckError, match=r"the rescue freed it(.|\n)*tcmu"):
        Backstore.create("vol0", "ram/", MIB).enable(seconds=1)
    expected_log(r"user_0/vol0.*refused: uio0 is gone")
    os.killpg(daemon.pid, signal.SIGCONT)


def test_a_command_that_does_not_end_fails_the_test() -> None:
    with pytest.raises(StuckError, match="sleep 1000 not done in"):
        command("sleep", "1000", seconds=0.1)
    with pytest.raises(StuckError, match="sleep"):
        within(0.1, time.sleep, 1000)


def test_the_log_check_finds_strangers_and_unmet_expectations() -> None:
    log = "t 1 [INFO] user_0/vol0: added\nt 1 [ERROR] user_0/vol1: refused\nt 1 [WARNING] user_0/vol2: late\n"
    refused, late = Expectation("vol1: refused"), Expectation("late", optional=True)
    never = Expectation("never")
    assert unexpected(log, [refused, late]) == []
    assert unexpected(log, [refused]) == ["unexpected: t 1 [WARNING] user_0/vol2: late"]
    assert unexpected(log, [refused, late, never]) == ["expected, but absent: never"]
    assert unexpected("Traceback (most recent call last):", []) == [
        "unexpected: Traceback (most recent call last):"
    ]
