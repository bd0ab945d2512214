import errno
import select
import threading
from collections.abc import Iterator

import pytest

from tcmu_runner.kernel.genl import (
    ConfigChange,
    Event,
    EventKind,
    NetlinkError,
    SizeChange,
    WriteCacheChange,
)
from tcmu_runner.kernel.netlink import EventsLost, TcmuNetlink
from tcmu_runner.kernel.netlink_port import NetlinkRefused

from .stub import StubKernel

NAME = "tcm-user/0/vol0/file//x"


@pytest.fixture
def kernel() -> Iterator[StubKernel]:
    kernel = StubKernel()
    yield kernel
    kernel.check()


@pytest.fixture
def netlink(kernel: StubKernel) -> Iterator[TcmuNetlink]:
    with TcmuNetlink(port=kernel.port) as netlink:
        yield netlink


def readable(netlink: TcmuNetlink) -> bool:
    return bool(select.select([netlink], [], [], 0)[0])


def test_opening_joins_and_then_asks_for_replies(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    assert kernel.replies_wanted
    assert netlink.replies_supported
    assert not readable(netlink)
    assert netlink.receive() == []


def test_accepted_device(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    enable = kernel.add(3, NAME)
    assert readable(netlink)
    (event,) = netlink.receive()
    assert event == Event(EventKind.ADDED, NAME, 3, enable.device_id, 2)
    assert enable.status is None
    assert netlink.reply(event, 0)
    assert enable.status == 0


def test_refused_device_fails_with_our_errno(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    enable = kernel.add(3, NAME)
    assert netlink.reply(netlink.receive()[0], -errno.EINVAL)
    assert enable.status == -errno.EINVAL


def test_life_of_a_device(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    added = kernel.add(3, NAME)
    netlink.reply(netlink.receive()[0], 0)
    for change, expected in (
        ({"config": b"file//y\n"}, ConfigChange("file//y")),
        ({"size": 1 << 30}, SizeChange(1 << 30)),
        ({"size": 1 << 30}, SizeChange(1 << 30)),  # restore writes again what is already so
        ({"write_cache": 1}, WriteCacheChange(True)),
        ({}, None),
    ):
        write = kernel.reconfigure(added, **change)
        (event,) = netlink.receive()
        assert event.change == expected
        assert netlink.reply(event, -errno.EOPNOTSUPP if expected is None else 0)
        assert write.status == (-errno.EOPNOTSUPP if expected is None else 0)
    rmdir = kernel.remove(added)
    (event,) = netlink.receive()
    assert netlink.reply(event, 0)
    assert rmdir.status == 0
    assert kernel.waits == {}


def test_several_devices_wait_at_once_and_are_answered_in_any_order(
    kernel: StubKernel, netlink: TcmuNetlink
) -> None:
    waits = [kernel.add(minor, f"tcm-user/0/vol{minor}/file//x") for minor in range(5)]
    events = netlink.receive()
    assert [event.minor for event in events] == [0, 1, 2, 3, 4]
    for event in reversed(events):
        assert netlink.reply(event, 0)
    assert [wait.status for wait in waits] == [0] * 5


def test_reply_from_another_thread(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    waits = [kernel.add(minor, NAME) for minor in range(20)]
    threads = [threading.Thread(target=netlink.reply, args=(event, 0)) for event in netlink.receive()]
    for thread in threads:
        thread.start()
    assert [wait.result() for wait in waits] == [0] * 20
    for thread in threads:
        thread.join()


def test_positive_status_is_refused_and_the_event_can_still_be_answered(
    kernel: StubKernel, netlink: TcmuNetlink
) -> None:
    enable = kernel.add(3, NAME)
    (event,) = netlink.receive()
    with pytest.raises(ValueError, match="negative errno"):
        netlink.reply(event, errno.EINVAL)
    assert netlink.reply(event, -errno.EINVAL)
    assert enable.status == -errno.EINVAL


def test_second_reply_is_not_sent(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    added = kernel.add(3, NAME)
    (event,) = netlink.receive()
    assert netlink.reply(event, 0)
    kernel.reconfigure(added, size=512)  # waits now, not yet read by us
    assert not netlink.reply(event, 0)
    assert netlink.reply(netlink.receive()[0], 0)


def test_reply_after_the_wait_was_reset_is_tolerated(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    enable = kernel.add(3, NAME)
    (event,) = netlink.receive()
    kernel.blocked = True
    kernel.reset_netlink()
    assert enable.status == -errno.EINTR
    assert not netlink.reply(event, 0)


def test_late_reply_never_meets_the_wait_for_another_event(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    added = kernel.add(3, NAME)
    netlink.reply(netlink.receive()[0], 0)
    resize = kernel.reconfigure(added, size=512)
    (slow,) = netlink.receive()
    kernel.blocked = True
    kernel.reset_netlink()
    kernel.blocked = False
    rmdir = kernel.remove(added)
    (removed,) = netlink.receive()
    assert not netlink.reply(slow, 0)  # sent, it would leave rmdir in the kernel for ever
    assert rmdir.device_id in kernel.waits
    assert netlink.reply(removed, 0)
    assert (resize.status, rmdir.status) == (-errno.EINTR, 0)


def test_equal_events_are_told_apart(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    added = kernel.add(3, NAME)
    netlink.reply(netlink.receive()[0], 0)
    kernel.reconfigure(added, size=512)
    (first,) = netlink.receive()
    kernel.blocked = True
    kernel.reset_netlink()
    kernel.blocked = False
    again = kernel.reconfigure(added, size=512)
    (second,) = netlink.receive()
    assert first == second
    assert not netlink.reply(first, -errno.EIO)
    assert netlink.reply(second, 0)
    assert again.status == 0


def test_addition_found_by_a_scan_can_be_answered(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel.overrun = True
    enable = kernel.add(3, NAME)
    with pytest.raises(EventsLost):
        netlink.receive()
    assert netlink.reply(Event(EventKind.ADDED, NAME, 3, enable.device_id, 2), 0)
    assert enable.status == 0


def test_overrun_is_raised_once_and_keeps_the_events_that_arrived(
    kernel: StubKernel, netlink: TcmuNetlink
) -> None:
    waits = [kernel.add(1, NAME)]
    kernel.overrun = True
    kernel.add(2, NAME)
    kernel.overrun = False
    waits.append(kernel.add(3, NAME))
    assert readable(netlink)
    with pytest.raises(EventsLost, match="overrun") as caught:
        netlink.receive()
    assert [event.minor for event in caught.value.events] == [1, 3]
    for event in caught.value.events:
        assert netlink.reply(event, 0)
    assert [wait.status for wait in waits] == [0, 0]
    assert netlink.receive() == []


def test_unreadable_event_counts_as_lost(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel.deliver(b"\x20\0\0\0garbage")
    enable = kernel.add(3, NAME)
    with pytest.raises(EventsLost, match="cut short") as caught:
        netlink.receive()
    netlink.reply(caught.value.events[0], 0)
    assert enable.status == 0


def test_events_that_a_process_forges_are_dropped(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel.deliver(b"\x20\0\0\0garbage", sender=4711)
    assert netlink.receive() == []


def test_messages_that_are_no_events_are_passed_over(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel.deliver(bytes.fromhex("10000000 0300 0000 00000000 00000000"))  # NLMSG_DONE
    assert netlink.receive() == []


def test_other_socket_errors_are_not_hidden(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel._members()[0].queue(b"", error=errno.ENOTCONN)
    with pytest.raises(OSError, match="as the kernel said"):
        netlink.receive()


def test_kernel_without_replies_is_told(kernel: StubKernel) -> None:
    kernel.knows_features = False
    with TcmuNetlink(port=kernel.port) as netlink:
        assert not netlink.replies_supported
        enable = kernel.add(3, NAME)
        assert enable.status == 0  # does not wait
        (event,) = netlink.receive()
        old = Event(event.kind, event.device, event.minor, None, 1)
        assert not netlink.reply(old, 0)


def test_clean_exit_and_repair_after_a_crash_clear_the_switch(kernel: StubKernel) -> None:
    with TcmuNetlink(port=kernel.port) as netlink:
        netlink.set_features(False)
        assert not kernel.replies_wanted
    with TcmuNetlink(port=kernel.port):
        pass
    assert kernel.replies_wanted  # outlives the daemon
    with TcmuNetlink(port=kernel.port, replies=False):
        assert not kernel.replies_wanted


def test_missing_module_is_named_with_its_remedy(kernel: StubKernel) -> None:
    kernel.module_loaded = False
    with pytest.raises(NetlinkRefused, match="modprobe target_core_user") as caught:
        TcmuNetlink(port=kernel.port)
    assert caught.value.errno == errno.ENOENT
    assert kernel._ports == []


def test_missing_privilege_is_named_with_its_remedy(kernel: StubKernel) -> None:
    kernel.privileged = False
    with pytest.raises(NetlinkRefused, match="run as root") as caught:
        TcmuNetlink(port=kernel.port)
    assert caught.value.errno == errno.EPERM
    assert kernel._ports == []


def test_reply_that_is_not_acknowledged_is_an_error_and_the_next_one_works(
    kernel: StubKernel, netlink: TcmuNetlink
) -> None:
    first, second = kernel.add(1, NAME), kernel.add(2, NAME)
    events = netlink.receive()
    kernel.acknowledgements = 0
    with pytest.raises(NetlinkError, match="reply to ADDED: no answer"):
        netlink.reply(events[0], 0)
    kernel.acknowledgements = 1
    assert netlink.reply(events[1], 0)
    assert (first.status, second.status) == (0, 0)


def test_refused_reply_is_an_error_that_names_the_device(kernel: StubKernel, netlink: TcmuNetlink) -> None:
    kernel.add(1, NAME)
    (event,) = netlink.receive()
    kernel.privileged = False
    with pytest.raises(NetlinkRefused, match=NAME):
        netlink.reply(event, 0)


def test_closing_leaves_no_socket_open(kernel: StubKernel) -> None:
    netlink = TcmuNetlink(port=kernel.port)
    netlink.close()
    netlink.close()
    assert kernel._ports == []
