"""The daemon as a service: handlers get what they need in spite of its hardening; and what is around it."""

import json
from pathlib import Path

import pytest
from support import disk as raw
from support.configfs import Backstore
from support.deadline import attempt, command, eventually
from support.loopback import Loopback

from .conftest import UNIT, is_active, systemctl

MIB = 1 << 20
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
