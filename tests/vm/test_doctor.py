"""`doctor` on a machine that is broken in each way it knows: it names what is wrong, and its advice works."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TypedDict

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, PARAMETERS, attempt, background, command, eventually
from support.filesystem import HELD_UP
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.handlers import handler_path
from support.loopback import Loopback

C_DAEMON = "/usr/bin/tcmu-runner"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    return handler_path()


class Finding(TypedDict):
    what: str
    told: str
    fine: bool
    fix: list[str]


def diagnosis() -> dict[str, Finding]:
    ended = attempt("tcmu-runner", "doctor", "--json")
    found: list[Finding] = json.loads(ended.output)
    assert ended.status == int(not all(each["fine"] for each in found)), ended
    return {each["what"]: each for each in found}


def wrong(what: str) -> Finding:
    found = diagnosis()[what]
    assert not found["fine"], found
    return found


def follow(finding: Finding) -> None:
    """Does as it is told. The unit in this image is Debian's, of the C daemon, and masked."""
    for line in finding["fix"]:
        if not line.startswith("systemctl"):
            command("sh", "-c", line)


def fine(what: str) -> None:
    """Becomes so: a new worker answers commands before the supervisor process knows that it does."""
    eventually(f"{what} is fine", lambda: diagnosis()[what]["fine"])


def test_two_luns_of_one_identifier(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog
) -> None:
    """NAA identifiers have the hexadecimal digits of the serial alone."""
    expected_log(r"user_0/vol. .*: same identifier as user_0/vol., naa.6001405")
    for serial in ("sum-3", "vol3"):
        make_backstore("ram/").store("wwn/vpd_unit_serial", serial)
    assert "naa.60014053" in wrong("user_0/vol0 and user_0/vol1")["told"]
    daemon.wait_for_log("user_0/vol1 .*same identifier as user_0/vol0")


def test_luns_without_a_serial_have_different_ones(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    """The kernel has them, so that targetcli saves them."""
    serials = {make_backstore("ram/").show("wwn/vpd_unit_serial").partition(":")[2] for _ in range(2)}
    assert len(serials) == 2
    assert all(len(each.strip()) == 36 for each in serials)


def test_a_healthy_daemon_and_its_device(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    make_backstore("ram/")
    found = diagnosis()
    del (
        found["tcmu-runner.service"],
        found["rtslib-fb-targetctl.service"],
    )  # masked and disabled in this image
    assert all(each["fine"] for each in found.values()), found
    assert found["user_0/vol0"]["told"] == "serving"


def test_the_module_is_missing(daemon: Daemon) -> None:
    daemon.stop()
    command("modprobe", "-r", "target_core_user")
    finding = wrong("kernel module")
    assert finding["fix"] == ["modprobe target_core_user"]
    follow(finding)
    fine("kernel module")


def test_configfs_is_not_mounted(daemon: Daemon) -> None:
    daemon.stop()
    command("umount", "/sys/kernel/config")
    finding = wrong("configfs")
    follow(finding)
    fine("configfs")


def test_not_root(daemon: Daemon) -> None:
    ended = attempt("setpriv", "--reuid=65534", "--clear-groups", "tcmu-runner", "doctor", "--json")
    (finding,) = [each for each in json.loads(ended.output) if each["what"] == "user"]
    assert "not root" in finding["told"]
    assert finding["fix"] == ["sudo tcmu-runner doctor"]


def test_no_daemon(daemon: Daemon) -> None:
    daemon.stop()
    assert wrong("daemon")["told"] == "no tcmu-runner is running"


def test_another_daemon(daemon: Daemon) -> None:
    daemon.stop()
    with background(C_DAEMON) as other:
        eventually("the C daemon's lock", lambda: "another" in diagnosis()["daemon"]["told"])
        finding = wrong("daemon")
        assert finding["told"] == f"another daemon serves this machine: {C_DAEMON}, process {other.pid}"
        follow(finding)
        other.wait(GENEROUS)
    daemon.start()
    fine("daemon")


def test_netlink_is_blocked(daemon: Daemon) -> None:
    (PARAMETERS / "block_netlink").write_text("1")
    follow(wrong("netlink"))
    fine("netlink")


def test_a_command_that_waits_for_a_dead_daemon(daemon: Daemon, expected_log: ExpectedLog) -> None:
    """Without its guardian nobody tells the kernel that the daemon is dead."""
    expected_log("the guardian process has ended", optional=True)
    for name in ("tcmu-guardian", processes.SUPERVISOR):
        for pid in processes.named(name):
            os.kill(pid, signal.SIGKILL)
    daemon.end_by_force()
    backstore = Backstore.create("vol0", "ram/", 8 * MIB)
    enable = subprocess.Popen(["sh", "-c", f"echo 1 > {backstore.path}/enable"], stderr=subprocess.PIPE)
    eventually("the wait", lambda: not diagnosis()["waiting commands"]["fine"])
    finding = wrong("waiting commands")
    assert f"sh ({enable.pid})" in finding["told"]
    assert enable.poll() is None
    follow(finding)
    enable.communicate(timeout=GENEROUS)
    fine("waiting commands")


def test_a_device_that_was_drained(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    make_backstore("ram/")
    command("tcmu-runner", "drain", "vol0")
    finding = wrong("user_0/vol0")
    assert finding["fix"] == ["tcmu-runner restart user_0/vol0"]
    follow(finding)
    fine("user_0/vol0")


def test_a_storage_that_does_not_answer(
    daemon: Daemon,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:
    """The kernel gives a command up after 30 s; with cmd_time_out=0 it waits, and so does the initiator."""
    expected_log(HELD_UP, optional=True)
    expected_log(r"user_0/vol0 .*: handler did not close within \d+ s: killed its worker", optional=True)
    backstore = make_backstore(f"stallonce/{tmp_path}/seen", 64 * MIB)
    backstore.store("attrib/cmd_time_out", 0)
    disk = loopback.add(backstore)
    Path(f"/sys/block/{disk.name}/device/timeout").write_text("300")
    read = [
        "dd",
        f"if={disk}",
        "of=/dev/null",
        "bs=4096",
        "count=1",
        f"skip={(17 << 20) // 4096}",
        "iflag=direct",
    ]
    with background(*read) as reader:
        eventually("an old command", lambda: not diagnosis()["user_0/vol0"]["fine"])
        finding = wrong("user_0/vol0")
        assert "its storage does not answer: a command waits for" in finding["told"]
        follow(finding)
        assert reader.wait(GENEROUS) == 0
    fine("user_0/vol0")


def test_settings_that_the_next_start_would_trip_over(daemon: Daemon, expected_log: ExpectedLog) -> None:
    expected_log("tcmu-runner.toml: line 2", optional=True)
    (file := Path("/etc/tcmu/tcmu-runner.toml")).parent.mkdir(exist_ok=True)
    file.write_text("[workers]\nprocesses = -1\n")
    try:
        assert wrong(str(file))["told"].startswith('line 2: workers.processes = -1: write "per-device"')
    finally:
        file.unlink()
