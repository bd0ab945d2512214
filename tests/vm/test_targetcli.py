"""Scans that do not begin at LUN 0: by targetcli's restoreconfig, and by hand with open-iscsi."""

from pathlib import Path

import pytest
from support import sg
from support.configfs import Backstore, store
from support.deadline import command, eventually
from support.fixtures import MIB, MakeBackstore
from support.iscsi import SESSIONS, Initiator, IscsiTarget
from support.loopback import Loopback

TEST_UNIT_READY = "00 00 00 00 00 00"


def disks_of(device: Path) -> list[Path]:
    """Of a SCSI device in sysfs, once it has one."""
    block = device / "block"
    eventually(f"a disk in {block}", lambda: block.is_dir() and any(block.iterdir()))
    command("udevadm", "settle")
    return [Path("/dev") / each.name for each in block.iterdir()]


@pytest.mark.usefixtures("daemon")
def test_every_disk_comes_back_by_restoreconfig(loopback: Loopback, tmp_path: Path) -> None:
    """It links LUNs in any order; the first INQUIRY of each has the LUN in byte 1."""
    for lun in range(3):  # an HBA for each, as targetcli has them
        backstore = Backstore.create(f"vol{lun}", f"file/{tmp_path}/{lun}.img", 64 * MIB, hba=lun)
        backstore.enable()
        loopback.add(backstore, lun)
    saved = tmp_path / "saved.json"
    command("targetcli", f"saveconfig {saved}")
    command("targetcli", "clearconfig confirm=True")
    assert not loopback.group.exists()
    command("targetcli", f"restoreconfig {saved}")
    for lun in range(3):
        (disk,) = disks_of(loopback.scsi_device(lun))
        sg.raw(disk, TEST_UNIT_READY)  # takes the unit attention of a new device
        assert sg.raw(disk, TEST_UNIT_READY).status == sg.GOOD


def test_a_scan_of_one_lun_by_hand(make_backstore: MakeBackstore) -> None:
    """iscsid.conf: node.session.scan = manual; the administrator names the LUN, which is not 0."""
    target = IscsiTarget().create(make_backstore("ram/"), make_backstore("ram/"))
    initiator = Initiator()
    initiator.connect(target, {"session.scan": "manual"})
    (session,) = SESSIONS.glob("session*")
    device = session / "device"
    host = device.resolve().parent.name
    assert not list(device.glob("target*/*:*/block/*"))
    store(Path(f"/sys/class/scsi_host/{host}/scan"), "0 0 1")
    eventually("the disk of LUN 1", lambda: any(device.glob("target*/*:1/block/*")))
    assert not list(device.glob("target*/*:0/block/*"))
    initiator.logout(target)
