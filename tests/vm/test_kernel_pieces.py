"""The kernel front end's pieces against the real kernel: run in the VM as root, with no TCMU daemon."""

import ctypes
import errno
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcmu_runner.kernel import genl, sysfs
from tcmu_runner.kernel.configfs import Backstore, ConfigfsError, ResetStatus
from tcmu_runner.kernel.genl import Event, EventKind, SizeChange, WriteCacheChange
from tcmu_runner.kernel.modules import NetlinkGate, load_target_core_user
from tcmu_runner.kernel.netlink import EventsLost, TcmuNetlink
from tcmu_runner.kernel.netlink_port import KernelPort
from tcmu_runner.kernel.paths import SYSTEM
from tcmu_runner.kernel.uio import DeviceGone, DeviceName, UioDevice, UioError, scan

HBA = 77
SIZE = 64 << 20
_numbers = itertools.count()


class Command(threading.Thread):
    """An administrator's command, which may sleep in the kernel; `result` is its errno, 0 for success."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._errno = -1
        self.start()

    def run(self) -> None:
        try:
            self._call()
            self._errno = 0
        except OSError as error:
            self._errno = error.errno or -1

    def wait_in(self, function: str) -> None:
        """Return when the command sleeps in that function of the kernel."""
        deadline = time.monotonic() + 30
        while f"{function}+" not in Path(f"/proc/self/task/{self.native_id}/stack").read_text():
            assert time.monotonic() < deadline, f"does not sleep in {function}"

    def result(self) -> int:
        self.join(30)
        assert not self.is_alive(), "still in the kernel"
        return self._errno


libc = ctypes.CDLL(None, use_errno=True)


def store_once(path: Path, text: str) -> None:
    """As sysfs.write, but Python's os.write would store again on EINTR, and hide it."""
    fd = os.open(path, os.O_WRONLY)
    try:
        if libc.write(fd, text.encode(), len(text)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


class Disk:
    """One backstore, made by hand through configfs as an administrator does."""

    def __init__(self, config: str = "test/some where/a:b") -> None:
        self.name = DeviceName(HBA, f"disk{next(_numbers)}", config)
        self.directory = SYSTEM.target / "core" / f"user_{HBA}" / self.name.device
        self.directory.mkdir(parents=True)
        self.backstore = Backstore(HBA, self.name.device)
        self.backstore.set_control(
            dev_config=config, dev_size=SIZE, hw_block_size=4096, hw_max_sectors=256, max_data_area_mb=2
        )

    def enable(self) -> Command:
        return self.set("enable", 1)

    def set(self, name: str, value: object) -> Command:
        return Command(lambda: store_once(self.directory / name, str(value)))

    def remove(self) -> Command:
        return Command(self.directory.rmdir)


@pytest.fixture(scope="module", autouse=True)
def module() -> None:
    load_target_core_user()


@pytest.fixture
def netlink() -> Iterator[TcmuNetlink]:
    with NetlinkGate():
        netlink = TcmuNetlink()
    with netlink:
        yield netlink
        netlink.set_features(False)
        with NetlinkGate():  # frees what a failed test left asleep
            pass
    hba = SYSTEM.target / "core" / f"user_{HBA}"
    for directory in hba.glob("disk*"):
        directory.rmdir()
    if hba.is_dir():
        hba.rmdir()


def next_event(netlink: TcmuNetlink) -> Event:
    assert select.select([netlink], [], [], 30)[0], "no event came"
    (event,) = netlink.receive()
    return event


def served(netlink: TcmuNetlink, disk: Disk) -> Event:
    enable = disk.enable()
    event = next_event(netlink)
    assert netlink.reply(event, 0)
    assert enable.result() == 0
    return event


def test_the_kernel_takes_replies(netlink: TcmuNetlink) -> None:
    assert netlink.replies_supported


def test_refused_device_fails_with_our_errno_and_leaves_no_uio(netlink: TcmuNetlink) -> None:
    disk = Disk()
    enable = disk.enable()
    event = next_event(netlink)
    assert (event.kind, event.device, event.version) == (EventKind.ADDED, str(disk.name), 2)
    assert event.minor in [entry.minor for entry in scan(SYSTEM) if entry.name == disk.name]
    assert disk.backstore.device_id() == event.device_id
    assert netlink.reply(event, -errno.EINVAL)
    assert enable.result() == errno.EINVAL
    assert disk.name not in [entry.name for entry in scan(SYSTEM)]
    again = disk.enable()
    assert netlink.reply(next_event(netlink), -errno.ENOMEDIUM)
    assert again.result() == errno.ENOMEDIUM


def test_actions_need_a_device_that_is_enabled(netlink: TcmuNetlink) -> None:
    disk = Disk()
    enable = disk.enable()
    event = next_event(netlink)
    with pytest.raises(
        ConfigfsError, match=r"cannot write '1' to action/block_dev: .*enabled device"
    ) as caught:
        disk.backstore.block()
    assert caught.value.errno == errno.EINVAL
    netlink.reply(event, 0)
    assert enable.result() == 0


def test_life_of_a_device(netlink: TcmuNetlink) -> None:
    disk = Disk()
    event = served(netlink, disk)
    device = UioDevice.open(event.minor)
    with pytest.raises(
        UioError, match=rf"{disk.name}: uio\d+ .* in use by .*\(pid {os.getpid()}\)"
    ) as caught:
        UioDevice.open(event.minor)
    assert caught.value.errno == errno.EBUSY

    area = device.map()
    assert len(area) == (8 << 20) + (2 << 20)
    assert struct.unpack_from("=H", area)[0] == 2  # mailbox version
    assert device.acknowledge() is None
    device.kick()
    disk.backstore.block()
    assert sysfs.read(disk.directory / "action/block_dev") == "blocked"
    disk.backstore.reset_ring()
    disk.backstore.reset_ring(ResetStatus.NOT_READY)
    disk.backstore.unblock()
    assert sysfs.read(disk.directory / "action/block_dev") == "unblocked"

    rmdir = disk.remove()
    removed = next_event(netlink)
    assert (removed.kind, removed.device_id) == (EventKind.REMOVED, event.device_id)
    assert netlink.reply(removed, 0)
    assert rmdir.result() == 0
    assert disk.name not in [entry.name for entry in scan(SYSTEM)]
    assert select.select([device], [], [], 30)[0]
    with pytest.raises(DeviceGone):
        device.acknowledge()
    with pytest.raises(DeviceGone):
        device.kick()
    area.close()
    device.close()
    with pytest.raises(DeviceGone):
        UioDevice.open(event.minor)


def test_reconfiguration(netlink: TcmuNetlink) -> None:
    disk = Disk()
    served(netlink, disk)
    resize = disk.set("attrib/dev_size", 2 * SIZE)
    event = next_event(netlink)
    assert event.change == SizeChange(2 * SIZE)
    assert netlink.reply(event, -errno.ENOSPC)
    assert resize.result() == errno.ENOSPC
    assert disk.backstore.size() == SIZE
    cache = disk.set("attrib/emulate_write_cache", 1)
    event = next_event(netlink)
    assert event.change == WriteCacheChange(True)
    assert netlink.reply(event, 0)
    assert cache.result() == 0
    assert disk.backstore.write_cache()
    rename = disk.set("attrib/dev_config", "test/other\n")
    event = next_event(netlink)
    assert event.change == genl.ConfigChange("test/other")
    assert netlink.reply(event, 0)
    assert rename.result() == 0
    renamed = DeviceName(HBA, disk.name.device, "test/other")
    assert renamed in [entry.name for entry in scan(SYSTEM)]


def test_what_the_kernel_tells_of_a_backstore(netlink: TcmuNetlink) -> None:
    disk = Disk()
    served(netlink, disk)
    store = disk.backstore
    assert (store.block_size(), store.size(), store.max_sectors()) == (4096, SIZE, 256)
    assert (store.serial(), store.command_timeout(), store.write_cache()) == ("", 30, False)
    assert (store.alua_support(), store.answers_reservations()) == (True, True)
    assert (store.vendor_id(), store.product_id(), store.revision()) == ("LIO-ORG", "", "")
    assert store.company_id() == 0x001405
    sysfs.write(disk.directory / "wwn/vpd_unit_serial", "aa-bb")
    assert store.serial() == "aa-bb"


def test_size_in_info_is_what_old_kernels_have(netlink: TcmuNetlink) -> None:
    disk = Disk(config="test/ Size: 7 x")
    text = sysfs.read(disk.directory / "info")
    assert text.rpartition(" Size: ")[2].partition(" ")[0] == str(SIZE)


def test_gate_frees_who_waits_and_lets_nobody_wait(netlink: TcmuNetlink) -> None:
    disk, other = Disk(), Disk()
    enable = disk.enable()
    event = next_event(netlink)
    with NetlinkGate():
        assert enable.result() == errno.EINTR
        assert other.enable().result() == errno.EAGAIN
    assert not netlink.reply(event, 0)  # too late
    assert netlink.receive() == []
    served(netlink, other)


def test_late_reply_does_not_hang_the_removal(netlink: TcmuNetlink) -> None:
    disk = Disk()
    served(netlink, disk)
    resize = disk.set("attrib/dev_size", 2 * SIZE)
    slow = next_event(netlink)
    with NetlinkGate():
        assert resize.result() == errno.EINTR
    rmdir = disk.remove()
    removed = next_event(netlink)
    assert not netlink.reply(slow, 0)
    assert netlink.reply(removed, 0)
    assert rmdir.result() == 0


def test_without_replies_nobody_waits(netlink: TcmuNetlink) -> None:
    netlink.set_features(False)
    disk = Disk()
    assert disk.enable().result() == 0
    event = next_event(netlink)
    assert not netlink.reply(event, 0)
    assert disk.remove().result() == 0
    assert next_event(netlink).kind is EventKind.REMOVED


def test_repair_after_a_crash(netlink: TcmuNetlink) -> None:
    TcmuNetlink(replies=False).close()
    assert Disk().enable().result() == 0
    next_event(netlink)


def test_the_buffer_is_large(netlink: TcmuNetlink) -> None:
    with socket_of(netlink) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 16 << 20  # the kernel doubles it


def test_lost_events_are_noticed_and_the_socket_recovers(netlink: TcmuNetlink) -> None:
    disk = Disk()
    netlink.set_features(False)
    assert disk.enable().result() == 0
    last = overrun(netlink, disk)
    with pytest.raises(EventsLost, match="overrun") as caught:
        netlink.receive()
    assert caught.value.events[0].kind is EventKind.ADDED
    assert caught.value.events[-1].change == SizeChange(last)
    assert netlink.receive() == []
    store_once(disk.directory / "attrib/dev_size", "512")
    assert next_event(netlink).change == SizeChange(512)


def test_addition_whose_event_was_lost_can_still_be_answered(netlink: TcmuNetlink) -> None:
    """The one event that the kernel waits for even if nobody has heard it."""
    disk, late = Disk(), Disk()
    netlink.set_features(False)
    assert disk.enable().result() == 0
    overrun(netlink, disk)
    netlink.set_features(True)
    enable = late.enable()
    enable.wait_in("tcmu_netlink_event_send")
    (entry,) = [entry for entry in scan(SYSTEM) if entry.name == late.name]
    assert disk.remove().result() == 0  # lost as well, and not waited for
    with pytest.raises(EventsLost):
        netlink.receive()
    lost = Event(EventKind.ADDED, str(entry.name), entry.minor, late.backstore.device_id(), 2)
    assert netlink.reply(lost, 0)
    assert enable.result() == 0


def socket_of(netlink: TcmuNetlink) -> socket.socket:
    return socket.socket(fileno=os.dup(netlink.fileno()))


def overrun(netlink: TcmuNetlink, disk: Disk) -> int:
    """Resize until an event finds no room; returns the last size that was told."""
    with socket_of(netlink) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    for size in itertools.count(1 << 12):
        try:
            store_once(disk.directory / "attrib/dev_size", str(size))
        except ProcessLookupError:  # nobody heard it: such a RECONFIG fails and does not wait
            return size - 1
    raise AssertionError


def test_reply_without_the_request_flag_would_not_be_heard(netlink: TcmuNetlink) -> None:
    disk = Disk()
    enable = disk.enable()
    event = next_event(netlink)
    assert event.device_id is not None
    port = KernelPort(5)
    sent = bytearray(genl.encode_reply(family_id(), event.kind, event.device_id, 0, 1))
    struct.pack_into("=H", sent, 6, 0)  # nlmsg_flags: the kernel neither acts on it nor acknowledges it
    port.send(bytes(sent))
    port.close()
    assert netlink.reply(event, 0)
    assert enable.result() == 0


def family_id() -> int:
    port = KernelPort(5)
    port.send(genl.encode_get_family(genl.FAMILY, 1))
    (message, *_) = genl.split(port.receive()[0])
    port.close()
    return genl.decode_family(message).id


def test_node_is_made_where_devtmpfs_has_none(netlink: TcmuNetlink) -> None:
    event = served(netlink, Disk())
    node = Path(f"/dev/uio{event.minor}")
    node.unlink()
    UioDevice.open(event.minor).close()
    assert node.is_char_device()
    assert node.stat().st_mode & 0o777 == 0o600
