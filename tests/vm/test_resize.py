"""A new size while the disk is in use: attrib/dev_size, and what the initiator sees of it."""

import errno
from pathlib import Path

import pytest
from support import disk as raw_disk
from support.configfs import Backstore
from support.deadline import within
from support.fio import Job, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.iscsi import Initiator, IscsiTarget
from support.loopback import Loopback
from support.sg import GOOD, UNIT_ATTENTION, raw

TEST_UNIT_READY = "000000000000"
PATTERN = b"\x5a" * 4096


def rescan(disk: Path) -> None:
    within(20, (Path("/sys/block") / disk.name / "device/rescan").write_text, "1")


def told_of_a_new_capacity(disk: Path) -> bool:
    """SBC-3 4.7: a command ends in UNIT ATTENTION, CAPACITY DATA HAS CHANGED; the one after it is fine."""
    first, second = raw(disk, TEST_UNIT_READY), raw(disk, TEST_UNIT_READY)
    assert second.status == GOOD, second.text
    return first.status == UNIT_ATTENTION and "Capacity data has changed" in first.text


@pytest.mark.parametrize("config", ["file/{}/disk.img", "ram/"])
def test_growing_and_shrinking(
    config: str, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    backstore = make_backstore(config.format(tmp_path), 64 * MIB)
    disk = loopback.add(backstore)
    raw_disk.write(disk, 0, PATTERN)

    backstore.store("attrib/dev_size", 96 * MIB)
    assert told_of_a_new_capacity(disk)
    rescan(disk)
    assert raw_disk.size(disk) == 96 * MIB
    raw_disk.write(disk, 96 * MIB - 4096, PATTERN)
    assert raw_disk.read(disk, 96 * MIB - 4096, 4096) == PATTERN

    backstore.store("attrib/dev_size", 32 * MIB)
    assert told_of_a_new_capacity(disk)
    rescan(disk)
    assert raw_disk.size(disk) == 32 * MIB
    assert raw_disk.read(disk, 0, 4096) == PATTERN


def test_over_iscsi(make_backstore: MakeBackstore, tmp_path: Path) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB)
    disk = Initiator().login(IscsiTarget().create(backstore))
    backstore.store("attrib/dev_size", 96 * MIB)
    assert told_of_a_new_capacity(disk)
    rescan(disk)
    assert raw_disk.size(disk) == 96 * MIB


def test_under_io(make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB)
    disk = loopback.add(backstore)
    with verifying(Job(disk, 4 * MIB)) as fio:
        for step in range(1, 6):
            fio.progress(200)
            backstore.store("attrib/dev_size", (64 + step) * MIB)
    rescan(disk)
    assert raw_disk.size(disk) == 69 * MIB


@pytest.mark.parametrize(
    ("size", "code", "reason"),
    [
        (64 * MIB + 100, errno.EINVAL, "not a multiple of the block size 512"),
        (0, errno.EINVAL, "dev_size is not set"),
        (1 << 60, errno.EFBIG, "set a smaller dev_size"),  # no file system here has files that long
    ],
)
def test_a_size_that_cannot_be(
    *,
    size: int,
    code: int,
    reason: str,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB)
    disk = loopback.add(backstore)
    with pytest.raises(OSError) as refusal:
        backstore.store("attrib/dev_size", size)
    assert refusal.value.errno == code
    expected_log(rf"user_0/vol0 .*cannot be resized to {size} bytes: .*{reason}")
    assert backstore.show("attrib/dev_size") == str(64 * MIB)
    assert not told_of_a_new_capacity(disk)
    rescan(disk)
    assert raw_disk.size(disk) == 64 * MIB
    raw_disk.write(disk, 64 * MIB - 4096, PATTERN)
    assert raw_disk.read(disk, 64 * MIB - 4096, 4096) == PATTERN


def test_a_new_config_string_needs_a_new_device(
    make_backstore: MakeBackstore, expected_log: ExpectedLog
) -> None:
    backstore: Backstore = make_backstore("ram/")
    with pytest.raises(OSError) as refusal:
        backstore.store("attrib/dev_config", "null/")
    assert refusal.value.errno == errno.EOPNOTSUPP
    expected_log(r"user_0/vol0 .*remove it and create it again")
    assert backstore.show("attrib/dev_config") == "ram/"
