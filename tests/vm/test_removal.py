"""A device goes while fio is at work on it. LIO wants the initiator's side gone first."""

import errno
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, background, eventually
from support.fio import Job, completed, verifying
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback

ENDLESS = [
    "--name=endless", "--direct=1", "--ioengine=libaio", "--rw=randrw", "--iodepth=16", "--bs=4k",
    "--time_based", "--runtime=6000",
]  # fmt: skip


def remove_under_io(loopback: Loopback, backstore: Backstore, disk: Path, lun: int) -> None:
    before = completed(disk)
    with background("fio", f"--filename={disk}", *ENDLESS) as fio:
        eventually(f"I/O on {disk}", lambda: completed(disk) > before + 100)
        loopback.remove(lun)
        backstore.remove()
        assert fio.wait(GENEROUS) != 0, "fio did not notice that its disk is gone"


def test_removal_under_io(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The removed device leaves nothing behind, and its neighbour does not notice."""
    neighbour = loopback.add(make_backstore(f"file/{tmp_path}/neighbour.img"))
    with verifying(Job(neighbour, 4 * MIB)) as fio:
        for round_ in range(1, 4):
            backstore = make_backstore(f"file/{tmp_path}/disk.img")
            remove_under_io(loopback, backstore, loopback.add(backstore, lun=1), lun=1)
            daemon.wait_for_log(rf"user_0/vol{round_} \(file/{tmp_path}/disk.img\): removed")
            assert len(processes.uio_devices()) == 1
            eventually("the end of its worker", lambda: len(processes.named(processes.WORKER)) == 1)
            fio.progress(100)


def test_the_backstore_cannot_go_before_its_lun(make_backstore: MakeBackstore, loopback: Loopback) -> None:
    """The kernel itself sees to it."""
    backstore = make_backstore("ram/")
    disk = loopback.add(backstore)
    with verifying(Job(disk, 2 * MIB)) as fio:
        with pytest.raises(OSError) as refusal:
            backstore.remove()
        assert refusal.value.errno == errno.EBUSY
        fio.progress(100)
