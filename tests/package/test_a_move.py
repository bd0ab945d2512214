"""From the C daemon to ours, with a session open: the first test on a machine that has Debian's package."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import disk as raw
from support.deadline import attempt, command
from support.fio import Job, verifying
from support.iscsi import Initiator, IscsiTarget
from support.kernel_log import kernel_log

from .conftest import PACKAGE, journal, systemctl
from .targetcli import Targetcli

MIB = 1 << 20
PATTERN = b"written through the C daemon".ljust(4096, b".")
TARGET = IscsiTarget()
SETTINGS = Path("/etc/tcmu/tcmu-runner.toml")


def installed_version() -> str:
    return command("dpkg-query", "--show", "--showformat=${Version}", "tcmu-runner")


@pytest.fixture
def c_daemon() -> Iterator[None]:
    systemctl("unmask", "tcmu-runner")
    systemctl("restart", "tcmu-runner")
    assert installed_version().startswith("1.")
    yield
    assert installed_version().startswith("2.")


@pytest.mark.usefixtures("c_daemon")
def test_a_lun_is_taken_over_under_io(tmp_path: Path) -> None:
    """Both daemons have a handler qcow, which takes raw files, too."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    told = Targetcli()(
        f"/backstores/user:qcow create vol0 64M {image}",
        f"/iscsi create {TARGET.iqn}",
        f"/iscsi/{TARGET.iqn}/tpg1/luns create /backstores/user:qcow/vol0",
        f"/iscsi/{TARGET.iqn}/tpg1 set attribute authentication=0 generate_node_acls=1",
        f"/iscsi/{TARGET.iqn}/tpg1 set attribute cache_dynamic_acls=1 demo_mode_write_protect=0",
    )
    assert "Created user-backed storage object vol0" in told
    disk = Initiator().login(TARGET)
    identity = command("/lib/udev/scsi_id", "--whitelisted", disk)
    raw.write(disk, 60 * MIB, PATTERN)

    with kernel_log() as log, verifying(Job(disk, 4 * MIB, rate=100)) as fio:
        fio.progress(200)
        SETTINGS.write_text("[workers]\nprocesses = -1\n")  # left over from an earlier try
        refused = attempt("apt-get", "install", "--yes", PACKAGE, seconds=600)
        assert refused.status != 0
        assert f"{SETTINGS}: line 2: workers.processes = -1: write" in refused.output + refused.errors
        fio.progress(200)  # the C daemon serves on
        SETTINGS.unlink()
        command("dpkg", "--configure", "--pending", seconds=600)
        fio.progress(200)
        assert "I/O error" not in log.text()
    assert raw.read(disk, 60 * MIB, 4096) == PATTERN
    assert command("/lib/udev/scsi_id", "--whitelisted", disk) == identity
    assert "user_0/vol0" in journal()
    with image.open("rb") as file:
        file.seek(60 * MIB)
        assert file.read(4096) == PATTERN


@pytest.mark.usefixtures("service")
def test_nothing_of_the_c_daemon_is_left() -> None:
    assert command("tcmu-runner", "--version").split()[-1].startswith("2.")
    assert "ELF" not in Path("/usr/bin/tcmu-runner").read_bytes()[:4].decode(errors="replace")
    for path in ("/etc/dbus-1/system.d/tcmu-runner.conf", "/etc/init.d/tcmu-runner"):
        assert not Path(path).exists()
    assert attempt("ps", "-C", "tcmu-runner").status == 0  # as gluster-block and logrotate look for it
    broken = attempt("dpkg", "--verify", "tcmu-runner").output.splitlines()
    assert [line for line in broken if "/usr/share/man/" not in line] == []  # the image leaves these out
