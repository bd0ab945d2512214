"""The same LUN over the kernel's iSCSI target, and by several initiators at once."""

from pathlib import Path

import pytest
from support.deadline import command
from support.fio import Job, verify, verifying
from support.fixtures import MIB, MakeBackstore
from support.iscsi import Initiator, IscsiTarget
from support.loopback import Loopback

HALF = 1 * MIB


def written_by(disk: Path, other: Path, offset: int) -> None:
    """What fio has written through one disk, it finds through the other."""
    verify(Job(disk, HALF, offset=offset), "--do_verify=0")
    verify(Job(other, HALF, offset=offset), "--verify_only")


def write_side_by_side(first: Path, second: Path) -> None:
    """Each writes and verifies its own half while the other does so; then each reads the other's half."""
    assert first != second
    with verifying(Job(first, HALF)), verifying(Job(second, HALF, offset=HALF)) as other:
        other.progress(300)
    written_by(first, second, 0)
    written_by(second, first, HALF)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_open_iscsi(block_size: int, make_backstore: MakeBackstore, tmp_path: Path) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB, hw_block_size=block_size)
    disk = Initiator().login(IscsiTarget().create(backstore))
    assert command("blockdev", "--getss", disk).strip() == str(block_size)
    counts = verify(Job(disk, HALF))
    assert counts.written == counts.read == HALF // 4096


def test_two_iscsi_initiators(make_backstore: MakeBackstore, tmp_path: Path) -> None:
    target = IscsiTarget().create(make_backstore(f"file/{tmp_path}/disk.img"))
    write_side_by_side(Initiator(0).login(target), Initiator(1).login(target))


def test_loopback_and_iscsi(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img")
    local = loopback.add(backstore)
    write_side_by_side(local, Initiator().login(IscsiTarget().create(backstore)))
