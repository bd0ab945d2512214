"""What LIO exports, on a tree of files that imitates configfs."""

from pathlib import Path

import pytest
from support.clock import ManualClock

from tcmu_runner.cli import exports as module
from tcmu_runner.cli.exports import DISK_SECONDS, Export, exports, users, wait_for_disk
from tcmu_runner.kernel.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.under(tmp_path)


def export(paths: Paths, fabric: str, target: str, lun: int, store: str = "user_0/vol0") -> Path:
    """Returns the target portal group's directory."""
    group = paths.target / fabric / target / "tpgt_1"
    directory = group / f"lun/lun_{lun}"
    directory.mkdir(parents=True)
    (directory / "0123456789").symlink_to(paths.target / "core" / store)
    (directory / "statistics").mkdir()
    return group


def test_exports_by_lun(paths: Paths) -> None:
    iqn = "iqn.2026-11.com.example:a"
    export(paths, "iscsi", iqn, 0)
    export(paths, "iscsi", iqn, 3, "user_1/other")
    export(paths, "iscsi", iqn, 4, "iblock_0/kernels")
    export(paths, "vhost", "naa.5001405000000001", 0)
    found = exports(paths)
    assert found == {
        "user_0/vol0": [Export("iscsi", iqn, 0), Export("vhost", "naa.5001405000000001", 0)],
        "user_1/other": [Export("iscsi", iqn, 3)],
    }
    assert str(found["user_1/other"][0]) == f"{iqn} LUN 3"


def test_a_lun_that_is_being_unlinked_is_left_alone(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To list its directory would be to wait, too."""
    monkeypatch.setattr(module, "SCSI_DEVICES", tmp_path / "devices")
    group = export(paths, "loopback", "naa.5001405000000001", 0)
    export(paths, "loopback", "naa.5001405000000001", 1, "user_0/other")
    (group / "address").write_text("2:0:1\n")
    (tmp_path / "devices/2:0:1:1/block/sdx").mkdir(parents=True)
    process = paths.proc / "4711"
    process.mkdir(parents=True)
    (process / "stack").write_text("[<0>] tcm_loop_port_unlink+0x6f/0x89 [tcm_loop]\n")
    (process / "comm").write_text("rm\n")
    assert list(exports(paths)) == ["user_0/other"]


def test_the_disk_of_a_loopback_export(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCSI_DEVICES", tmp_path / "devices")
    group = export(paths, "loopback", "naa.5001405000000001", 0)
    (found,) = exports(paths)["user_0/vol0"]
    assert (found.disk, str(found)) == ("", "naa.5001405000000001 LUN 0")
    (group / "address").write_text("2:0:1\n")
    (tmp_path / "devices/2:0:1:0/block/sdx").mkdir(parents=True)
    (found,) = exports(paths)["user_0/vol0"]
    assert str(found) == "/dev/sdx"


def test_a_new_disk_is_waited_for_until_the_kernel_has_found_it(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCSI_DEVICES", tmp_path / "devices")
    group = export(paths, "loopback", "naa.5001405000000001", 0)
    (group / "address").write_text("2:0:1\n")

    class Finding(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now >= 1000 + DISK_SECONDS - 1:
                (tmp_path / "devices/2:0:1:0/block/sdx").mkdir(parents=True)

    in_vain = ManualClock()
    assert wait_for_disk(group, in_vain) == ""
    assert 1000 + DISK_SECONDS <= in_vain.now < 1001 + DISK_SECONDS
    assert wait_for_disk(group, Finding()) == "/dev/sdx"


def test_who_uses_a_disk(paths: Paths) -> None:
    (paths.proc / "self").mkdir(parents=True)
    (paths.proc / "self/mountinfo").write_text(
        "22 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n"
        "90 22 8:1 / /mnt/disk rw,relatime shared:9 master:1 - ext4 /dev/sdx1 rw\n"
    )
    found = list(users(Export("loopback", "naa.5", 0, "/dev/sdx"), paths))
    assert found == ["/dev/sdx is mounted on /mnt/disk"]
    assert list(users(Export("loopback", "naa.5", 0, "/dev/sdy"), paths)) == []


def test_who_is_logged_in(paths: Paths) -> None:
    (paths.proc / "self").mkdir(parents=True)
    group = export(paths, "iscsi", "iqn.x", 0)
    for name, info in {
        "iqn.idle": "No active iSCSI Session for",
        "iqn.busy": "InitiatorName: iqn.busy",
    }.items():
        (group / "acls" / name).mkdir(parents=True)
        (group / "acls" / name / "info").write_text(info + "\n")
    (group / "dynamic_sessions").write_bytes(b"iqn.any\0")
    assert list(users(Export("iscsi", "iqn.x", 0), paths)) == [
        "initiator iqn.busy is logged in to iqn.x",
        "initiator iqn.any is logged in to iqn.x",
    ]
