"""What before_reboot.py has made is there again; and at the end the package leaves without a trace."""

import json
from pathlib import Path

from support import cleanup
from support import disk as raw
from support.configfs import Backstore
from support.deadline import attempt, command
from support.iscsi import Initiator

from .before_reboot import (
    OFFSET,
    PATTERN,
    SERIALS,
    SETTINGS,
    STACKED,
    TARGET,
    clean_slate,
    disk_of,
    serial_of,
)
from .conftest import is_active, journal, systemctl

__all__ = ["clean_slate"]  # a fixture
SCSI_BLOCK = Path("/sys/class/block")


def test_the_luns_are_back_and_have_their_data() -> None:
    attempt("systemctl", "is-system-running", "--wait")  # the agent of the machine answers before
    assert is_active()
    assert systemctl("is-active", "rtslib-fb-targetctl.service").strip() == "active"
    for name in ("kept", "other"):
        assert any(Backstore(name, hba).path.exists() for hba in range(8)), name
    disk = Initiator().login(TARGET)
    assert raw.read(disk, OFFSET, 4096) == PATTERN
    assert "[ERROR]" not in journal("--boot")


def test_each_lun_is_itself() -> None:
    """Its overlay, its settings and its identity, whatever its HBA is now."""
    serials = json.loads(SERIALS.read_text())
    for name in STACKED:
        disk = disk_of(name)
        assert raw.read(disk, OFFSET // 2, 4096) == name.encode() * 4096
        assert serial_of(name) == serials[name]
        assert f"V{name}" in (SCSI_BLOCK / disk.name / "device/vendor").read_text()
    SETTINGS.unlink()


def test_it_is_removed_with_all_that_it_has_written() -> None:
    cleanup.everything()
    listed = map(Path, command("dpkg", "--listfiles", "tcmu-runner").split("\n"))
    files = [path for path in listed if path.exists() and not path.is_dir()]
    command("dpkg", "--remove", "tcmu-runner", seconds=600)
    assert not is_active()
    assert Path("/etc/tcmu/tcmu.conf").exists()
    command("dpkg", "--purge", "tcmu-runner", seconds=600)
    assert files
    assert [path for path in files if path.exists()] == []
    assert list(Path("/var/log").glob("tcmu-runner*")) == []
    assert not Path("/var/lib/tcmu-runner").exists()
    assert not Path("/etc/tcmu").exists()
