import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.errors import TransportGoneError
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceGone, DeviceName, UioDevice, UioEntry, UioError, scan

from .tree import make_uio, write_all


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tcm-user/0/vol0/file//srv/disk.img", DeviceName(0, "vol0", "file//srv/disk.img")),
        ("tcm-user/12/my disk/ram", DeviceName(12, "my disk", "ram")),
        ("tcm-user/0/vol0/file//a/\n", DeviceName(0, "vol0", "file//a/")),
        ("tcm-user/0/vol0/file//a\nb\n", DeviceName(0, "vol0", "file//a\nb")),
        ("tcm-user/0/vol0\n", DeviceName(0, "vol0")),
    ],
)
def test_device_name(text: str, name: DeviceName) -> None:
    assert DeviceName.parse(text) == name
    assert str(name) == text.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    ["", "igb_uio", "tcm-user", "tcm-user/0", "tcm-user/0/", "tcm-user/x/vol0/ram", "tcm-user/\u0662/vol0",
     "tcm-user/-1/vol0/ram", "tcm-users/0/vol0/ram"],
)  # fmt: skip
def test_names_of_other_drivers(text: str) -> None:
    with pytest.raises(ValueError, match="not the name of a TCMU device"):
        DeviceName.parse(text)


def test_scan_lists_the_tcmu_devices_by_minor(paths: Paths) -> None:
    make_uio(paths, 10, b"tcm-user/0/b/ram")
    make_uio(paths, 9, b"tcm-user/1/a/file//\xff\n")
    make_uio(paths, 3, b"igb_uio")
    assert scan(paths) == [
        UioEntry(9, DeviceName(1, "a", "file//\udcff")),
        UioEntry(10, DeviceName(0, "b", "ram")),
    ]


def test_scan_leaves_out_what_vanishes_or_is_no_device(paths: Paths) -> None:
    make_uio(paths, 1, b"tcm-user/0/a/ram")
    (paths.uio / "uio2").mkdir()  # its name was removed between the listing and the reading
    (paths.uio / "uio3").symlink_to("removed")
    write_all(paths.uio / "uiox", {"name": "tcm-user/0/x/ram\n"})
    assert [entry.minor for entry in scan(paths)] == [1]


def test_scan_without_the_uio_driver(paths: Paths) -> None:
    assert scan(paths) == []


@pytest.fixture
def device(paths: Paths) -> Iterator[UioDevice]:
    make_uio(paths, 4, size=0x3000)
    (paths.dev / "uio4").write_bytes(bytes(0x3000))
    device = UioDevice.open(4, paths)
    yield device
    device.close()


def test_open_is_private_to_the_process_and_does_not_block(device: UioDevice) -> None:
    assert fcntl.fcntl(device.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    flags = fcntl.fcntl(device.fileno(), fcntl.F_GETFL)
    assert flags & os.O_NONBLOCK
    assert flags & os.O_ACCMODE == os.O_RDWR


def test_close_is_once_and_for_all(device: UioDevice) -> None:
    fd = device.fileno()
    device.close()
    device.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        device.kick()


def test_map_is_shared_and_exactly_as_long_as_map0(device: UioDevice, paths: Paths) -> None:
    with device.map() as area:
        assert len(area) == 0x3000
        area[0x2FFF] = 7
        assert (paths.dev / "uio4").read_bytes()[-1] == 7


def test_map_is_not_inherited_by_forked_children(device: UioDevice, paths: Paths) -> None:
    with device.map():
        flags = smaps_flags(paths.dev / "uio4")
    assert "dc" in flags  # VM_DONTCOPY, Documentation/filesystems/proc.rst
    assert "sh" in flags


def smaps_flags(path: Path) -> list[str]:
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.endswith(str(path)))
    return next(line for line in lines if line.startswith("VmFlags:")).split()


def test_map_of_a_device_that_vanished(device: UioDevice, paths: Paths) -> None:
    (paths.uio / "uio4/maps/map0/size").unlink()
    with pytest.raises(DeviceGone, match="uio4 is gone"):
        device.map()


def test_map_the_kernel_refuses(paths: Paths) -> None:
    make_uio(paths, 4, size=0x1000)
    read, write = os.pipe()
    device = UioDevice(4, read, paths)
    with pytest.raises(UioError, match="tcm-user/0/vol0/file//x: uio4 cannot be mapped") as caught:
        device.map()
    assert caught.value.errno in (errno.ENODEV, errno.EACCES)
    device.close()
    os.close(write)


def test_open_device_that_vanished(paths: Paths) -> None:
    with pytest.raises(DeviceGone, match="uio4 is gone: its backstore was removed") as caught:
        UioDevice.open(4, paths)
    assert caught.value.errno == errno.ENODEV


def test_open_what_another_process_holds_names_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_uio(paths, 4)
    write_all(paths.proc / "77", {"comm": "tcmu-runner\n", "fd/0": ""})
    (paths.proc / "77/fd/5").symlink_to(paths.dev / "uio4")
    write_all(paths.proc / "78/fd", {"0": ""})
    refuse_open(monkeypatch, errno.EBUSY)  # uio_open of a device that is open
    with pytest.raises(UioError) as caught:
        UioDevice.open(4, paths)
    assert caught.value.errno == errno.EBUSY
    assert (
        "tcm-user/0/vol0/file//x: uio4 cannot be opened: it is in use by tcmu-runner (pid 77); stop"
        in str(caught.value)
    )


def test_open_what_an_unseen_process_holds(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_uio(paths, 4)
    refuse_open(monkeypatch, errno.EBUSY)
    with pytest.raises(UioError, match="in use by a process that cannot be seen from here; stop"):
        UioDevice.open(4, paths)


def test_open_without_privilege(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_uio(paths, 4)
    (paths.uio / "uio4/name").unlink()
    refuse_open(monkeypatch, errno.EACCES)
    with pytest.raises(UioError, match=r"TCMU device: uio4 .*run as root"):
        UioDevice.open(4, paths)


def refuse_open(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The node, and nothing else."""
    really = os.open

    def refuse(path: Path, flags: int) -> int:
        if path.parent.name != "dev":
            return really(path, flags)
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse)


def test_node_is_made_where_no_devtmpfs_does(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_uio(paths, 4)
    (directory / "dev").write_text("243:4\n")
    (paths.dev / "uio4").unlink()
    made = []

    def mknod(path: Path, mode: int, device: int) -> None:
        made.append((path, mode, device))
        path.write_bytes(b"")

    monkeypatch.setattr(os, "mknod", mknod)
    UioDevice.open(4, paths).close()
    assert made == [(paths.dev / "uio4", stat.S_IFCHR | 0o600, os.makedev(243, 4))]


def test_node_that_devtmpfs_makes_at_the_same_moment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_uio(paths, 4)
    (paths.dev / "uio4").unlink()

    def mknod(path: Path, mode: int, device: int) -> None:
        path.write_bytes(b"")
        raise FileExistsError(errno.EEXIST, "File exists", str(path))

    monkeypatch.setattr(os, "mknod", mknod)
    UioDevice.open(4, paths).close()


def test_stale_node_of_another_device_is_not_opened(paths: Paths) -> None:
    directory = make_uio(paths, 4)
    (directory / "dev").write_text("243:4\n")
    with pytest.raises(UioError, match="it is not device 243:4; remove it"):
        UioDevice.open(4, paths)


# The counter is not to be had without a UIO device: descriptors that fail with the same errno stand in.


def test_kick_writes_four_bytes(paths: Paths) -> None:
    read, write = os.pipe()
    device = UioDevice(4, write, paths)
    device.kick()
    device.close()
    assert len(os.read(read, 64)) == 4  # uio_write: any other count is EINVAL
    os.close(read)


def test_kick_of_a_device_that_is_gone(paths: Paths) -> None:
    device = UioDevice(4, os.eventfd(0), paths)  # EINVAL for four bytes, as uio_write after unregistration
    with pytest.raises(DeviceGone) as caught:
        device.kick()
    assert isinstance(caught.value, TransportGoneError)
    device.close()


def test_other_errors_of_kick_are_not_hidden(paths: Paths) -> None:
    device = UioDevice(4, os.open("/dev/full", os.O_RDWR), paths)
    with pytest.raises(OSError, match="No space"):
        device.kick()
    device.close()


def test_acknowledge_gives_the_count_and_then_nothing(paths: Paths) -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    device = UioDevice(4, read, paths)
    os.write(write, struct.pack("=i", -7))  # the counter is s32 and wraps
    assert device.acknowledge() == -7
    assert device.acknowledge() is None
    device.close()
    os.close(write)


def test_acknowledge_of_a_device_that_is_gone(paths: Paths) -> None:
    device = UioDevice(4, os.open("/proc/self/mem", os.O_RDONLY), paths)  # EIO at address 0
    with pytest.raises(DeviceGone):
        device.acknowledge()
    device.close()


def test_device_from_a_received_descriptor_maps_it(paths: Paths) -> None:
    make_uio(paths, 4, size=mmap.PAGESIZE)
    fd = os.memfd_create("ring")
    os.ftruncate(fd, mmap.PAGESIZE)
    device = UioDevice(4, fd, paths)
    with device.map() as area:
        assert len(area) == mmap.PAGESIZE
    device.close()
