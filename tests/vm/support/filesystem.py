"""File systems on a disk, as the way most people notice that a block is wrong."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, background, command, eventually
from support.fio import completed
from support.iscsi import Initiator, IscsiTarget

TREE = Path("/usr/lib/python3.11/email")  # some hundred files, of all sizes and with directories
DIED = r"worker process ended( \(SIG\w+\))?: initiators retry the commands under way"
"""What the daemon logs when somebody has killed one."""
HELD_UP = r"(storage has not answered a command|handler has blocked the ring thread) for \d+ s"
"""And what it may log where the host of the emulated machine is busy."""


@contextmanager
def mounted(disk: Path, mountpoint: Path, *options: str) -> Iterator[Path]:
    """options: of mount(8)."""
    mountpoint.mkdir(exist_ok=True)
    command("mount", *options, disk, mountpoint)
    try:
        yield mountpoint
    finally:
        command("umount", mountpoint)


@contextmanager
def small(directory: Path, size: int) -> Iterator[Path]:
    """A new directory that is a file system of so many bytes, for the file below a LUN."""
    directory.mkdir()
    command("mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory)
    try:
        yield directory
    finally:
        command("umount", "--lazy", directory)  # the daemon lets go of the file with the device, later


@contextmanager
def copying(target: Path, disk: Path) -> Iterator[None]:
    """A copy of TREE is being written to `target`, on that disk, and is on it in the end."""
    before = completed(disk)
    line = f"cp -r {TREE} {target} && sync -f {target}"
    with background("sh", "-c", line) as process:
        eventually("the copy's first writes", lambda: completed(disk) > before + 10)
        yield
        assert process.wait(GENEROUS) == 0


def across_a_crash_and_a_restart(daemon: Daemon, backstore: Backstore, mountpoint: Path) -> None:
    """A file system over the kernel's iSCSI target, which is written while the worker process is killed and
    the daemon is stopped and started: nobody sees an error, and every file is right."""
    target, initiator = IscsiTarget().create(backstore), Initiator()
    disk = initiator.login(target)
    try:
        command("mkfs.ext4", "-q", "-F", disk)
        with mounted(disk, mountpoint):
            with copying(mountpoint / "crash", disk):
                os.kill(processes.worker(processes.minor_of(backstore.name)), signal.SIGKILL)
            with copying(mountpoint / "restart", disk):
                daemon.stop()
                daemon.start()
        command("fsck.ext4", "-f", "-n", disk)
        with mounted(disk, mountpoint, "-o", "ro"):  # a new mount reads from the disk
            for name in ("crash", "restart"):
                command("diff", "-r", TREE, mountpoint / name)
    finally:
        initiator.logout(target)
