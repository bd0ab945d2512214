"""A new size while the disk is in use: attrib/dev_size, and what the initiator sees of it."""

import errno
from pathlib import Path

import pytest
from support import disk as raw_disk
from support.configfs import Backstore
from support.deadline import GENEROUS, within
from support.fio import Job, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.iscsi import Initiator, IscsiTarget
from support.kernel_log import kernel_log
from support.loopback import Loopback
from support.sg import GOOD, raw

TEST_UNIT_READY = "000000000000"
PATTERN = b"\x5a" * 4096


def rescan(disk: Path) -> None:
    within(GENEROUS, (Path("/sys/block") / disk.name / "device/rescan").write_text, "1")


def told_of_a_new_capacity(backstore: Backstore, disk: Path, size: int) -> bool:
    """Resizes. SBC-3 4.7: some command then ends in UNIT ATTENTION, CAPACITY DATA HAS CHANGED, and the kernel
    says so; that may be one of udev's, which looks at every disk that was written."""
    with kernel_log() as log:
        backstore.store("attrib/dev_size", size)
        raw(disk, TEST_UNIT_READY)
        assert raw(disk, TEST_UNIT_READY).status == GOOD
        return "Capacity data has changed" in log.text()


@pytest.mark.parametrize("config", ["file/{}/disk.img", "ram/"])
def test_growing_and_shrinking(
    config: str, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    backstore = make_backstore(config.format(tmp_path), 64 * MIB)
    disk = loopback.add(backstore)
    raw_disk.write(disk, 0, PATTERN)

    assert told_of_a_new_capacity(backstore, disk, 96 * MIB)
    rescan(disk)
    assert raw_disk.size(disk) == 96 * MIB
    raw_disk.write(disk, 96 * MIB - 4096, PATTERN)
    assert raw_disk.read(disk, 96 * MIB - 4096, 4096) == PATTERN

    assert told_of_a_new_capacity(backstore, disk, 32 * MIB)
    rescan(disk)
    assert raw_disk.size(disk) == 32 * MIB
    assert raw_disk.read(disk, 0, 4096) == PATTERN


def test_over_iscsi(make_backstore: MakeBackstore, tmp_path: Path) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB)
    disk = Initiator().login(IscsiTarget().create(backstore))
    assert told_of_a_new_capacity(backstore, disk, 96 * MIB)
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
        ((1 << 64) - 512, errno.EINVAL, "is more than 9223372036854775807 bytes"),
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
    image = Path(f"/var/tmp/{tmp_path.name}.img")  # no tmpfs: there files can be that long
    backstore = make_backstore(f"file/{image}", 64 * MIB)
    image.unlink()
    disk = loopback.add(backstore)
    with kernel_log() as log:
        with pytest.raises(OSError, match="attrib/dev_size") as refusal:
            backstore.store("attrib/dev_size", size)
        raw_disk.read(disk, 0, 4096)
        assert "Capacity data has changed" not in log.text()
    assert refusal.value.errno == code
    expected_log(rf"user_0/vol0 .*cannot be resized to {size} bytes: .*{reason}")
    assert backstore.show("attrib/dev_size") == str(64 * MIB)
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
