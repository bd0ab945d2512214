"""The daemon as a service: handlers get what they need in spite of its hardening; and what is around it."""

import json
import subprocess
from pathlib import Path

import pytest
from support import disk as raw
from support.configfs import Backstore
from support.deadline import attempt, command, eventually
from support.loopback import Loopback

from .conftest import UNIT, is_active, systemctl

MIB = 1 << 20
UNLINKING = "tcmu-runner-unlinking.service"
PATTERN = b"\xa5" * 4096


@pytest.mark.usefixtures("service")
def test_the_units_are_in_order() -> None:
    assert command("systemd-analyze", "verify", "--man=no", UNIT, seconds=120) == ""
    for restorer in ("target.service", "rtslib-fb-targetctl.service"):
        assert restorer in systemctl("show", "-P", "Before", UNIT).split()
    wanted = systemctl("show", "-P", "Wants", "rtslib-fb-targetctl.service").split()
    assert UNIT in wanted
    assert is_active()
    assert systemctl("is-enabled", UNIT).strip() == "enabled"


def doctors_advice() -> list[str]:
    """Of the daemon."""
    found = json.loads(attempt("tcmu-runner", "doctor", "--json").output)
    return [line for each in found if each["what"] == "daemon" for line in each["fix"]]


@pytest.mark.usefixtures("service")
def test_after_a_stop_no_command_hangs_and_doctor_says_how_to_go_on() -> None:
    systemctl("stop", UNIT)
    backstore = Backstore.create("vol0", "ram/", 32 * MIB)
    backstore.enable()
    (line,) = doctors_advice()
    command("sh", "-c", line, seconds=300)
    assert doctors_advice() == []
    disk = Loopback().create().add(backstore)
    raw.write(disk, 0, PATTERN)
    assert raw.read(disk, 0, 4096) == PATTERN


@pytest.mark.usefixtures("service")
def test_looking_does_not_start_the_daemon() -> None:
    """An activation by D-Bus cancelled the stop while `top` was open, and `list` started the daemon again."""
    Backstore.create("vol0", "ram/", 32 * MIB).enable()
    look = ["tcmu-runner", "top", "--json", "--interval", "0.1"]
    with subprocess.Popen(look, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as top:
        assert top.stdout is not None
        assert top.stdout.readline()
        systemctl("stop", UNIT)
        assert not is_active()
        looked = attempt("tcmu-runner", "list")
        top.terminate()
    assert not is_active()
    assert looked.status != 0
    assert "tcmu-runner is stopped; 1 LUN waits for it" in looked.errors
    systemctl("start", UNIT)


@pytest.mark.usefixtures("service")
def test_a_stopped_daemon_leaves_somebody_for_those_who_unlink() -> None:
    """Linux repeats the last flush of a disk for 18 minutes; tcmu-runner-unlinking answers it."""
    backstore = Backstore.create("vol0", "ram/", 32 * MIB)
    backstore.enable()
    loopback = Loopback().create()
    loopback.add(backstore)
    systemctl("stop", UNIT)
    eventually("the unit", lambda: systemctl("show", "-P", "ActiveState", UNLINKING).strip() == "active")
    command("rm", loopback.group / "lun/lun_0" / backstore.name, seconds=110)
    systemctl("start", UNIT)
    eventually("its end", lambda: systemctl("show", "-P", "ActiveState", UNLINKING).strip() == "inactive")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("directory", ["/home", "/var/lib", "/mnt"])
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


def test_a_shell_completes_commands() -> None:
    """With bash alone: what it is told to call is in the file."""
    completion = Path("/usr/share/bash-completion/completions/tcmu-runner")
    typed = "COMP_WORDS=(tcmu-runner doc); COMP_CWORD=1; _shtab_tcmu_runner; echo ${COMPREPLY[@]}"
    assert command("bash", "-c", f". {completion}; {typed}") == "doctor\n"
    of_zsh = Path("/usr/share/zsh/vendor-completions/_tcmu-runner").read_text()
    assert of_zsh.startswith("#compdef tcmu-runner")
