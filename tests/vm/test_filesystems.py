"""A disk made by hand as the README describes it, with the file systems people use on it."""

from pathlib import Path

import pytest
from support.deadline import command
from support.filesystem import TREE, mounted
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback

SIZE = 320 * MIB  # mkfs.xfs wants 300 MiB

FILE_SYSTEMS = {
    "ext4": (["mkfs.ext4", "-q", "-F"], ["fsck.ext4", "-f", "-n"]),
    "xfs": (["mkfs.xfs", "-q", "-f"], ["xfs_repair", "-n"]),
}


@pytest.mark.parametrize("block_size", [512, 4096])
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_file_system_survives(
    kind: str, block_size: int, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    image, mountpoint = tmp_path / "disk.img", tmp_path / "mnt"
    disk = loopback.add(make_backstore(f"file/{image}", SIZE, hw_block_size=block_size))
    assert command("blockdev", "--getss", disk).strip() == str(block_size)
    make, check = FILE_SYSTEMS[kind]
    command(*make, disk)

    with mounted(disk, mountpoint, "-t", kind):
        command("cp", "-r", TREE, mountpoint / "tree")
    command(*check, disk)
    with mounted(disk, mountpoint, "-t", kind, "-o", "ro"):  # a new mount reads from the disk
        command("diff", "-r", TREE, mountpoint / "tree")


def test_space_that_a_file_system_frees_goes_back(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """fstrim: UNMAP on its way from a file system into holes of the file."""
    image, mountpoint = tmp_path / "disk.img", tmp_path / "mnt"
    disk = loopback.add(make_backstore(f"file/{image}", 128 * MIB))
    command("mkfs.ext4", "-q", "-F", disk)
    with mounted(disk, mountpoint):
        (mountpoint / "large").write_bytes(b"\xa5" * (32 * MIB))
        command("sync", "-f", mountpoint)
        full = image.stat().st_blocks * 512
        (mountpoint / "large").unlink()
        command("sync", "-f", mountpoint)
        command("fstrim", mountpoint)
    assert full >= 32 * MIB
    assert image.stat().st_blocks * 512 <= full - 30 * MIB
