"""`rbd` on the real kernel: a disk of a Ceph cluster behind the kernel's iSCSI target, with a file system."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.filesystem import DIED, HELD_UP, across_a_crash_and_a_restart
from support.fixtures import MIB, ExpectedLog, MakeBackstore

sys.path.append(str(Path(__file__).parents[1] / "servers"))

from ceph_cluster import Ceph

SIZE = 96 * MIB


@pytest.fixture(scope="module")
def ceph() -> Iterator[Ceph]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:  # a tmpfs has no direct I/O for the OSD
        made = Ceph(Path(directory))
        try:
            made.create()
            yield made
        finally:
            made.close()


def test_a_disk_of_a_cluster_across_a_crash_and_a_restart(
    daemon: Daemon, ceph: Ceph, make_backstore: MakeBackstore, expected_log: ExpectedLog, tmp_path: Path,
) -> None:  # fmt: skip
    """With the image's exclusive lock, which each new process takes from the one before it."""
    expected_log(DIED)
    expected_log(HELD_UP, optional=True)
    ceph.rbd("create", "--size", f"{SIZE}B", "rbd/disk")
    backstore = make_backstore(f"rbd/rbd/disk;conf={ceph.conf};exclusive", SIZE)
    across_a_crash_and_a_restart(daemon, backstore, tmp_path / "mnt")
