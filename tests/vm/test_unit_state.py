"""What initiators have set, through everything that ends a worker (docs/reference/unit-state.md)."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import processes
from support.cdbs import CHECK_CONDITION, D_SENSE_SET, Send
from support.configfs import Backstore, store
from support.daemon import Daemon
from support.deadline import command, eventually
from support.filesystem import small
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.kernel_log import kernel_log
from support.loopback import Loopback
from support.sg import GOOD, UNIT_ATTENTION, raw
from support.sg_io import commands

TEST_UNIT_READY = "000000000000"
SENSE_CACHING, SENSE_CONTROL = "1a0808004000", "1a080a004000"
# MODE SELECT(6), PF: header, then the caching page with WCE 0, or the control page with SWP 1 (SPC-5 7.5.8)
SELECT_CACHING, WCE_OFF = "151000001800", bytes.fromhex("00000000 081200") + bytes(17)
SELECT_CONTROL, PROTECTED = "151000001000", bytes.fromhex("00000000 0a0a0010 08400000 ffff0000")
STOP, START = "1b0000000000", "1b0000000100"
SENSE_SELF_TESTS = "4d005000000000008000"  # LOG SENSE of page 10h
ROOM = 8 * MIB  # of the file system below the LUN with a soft threshold of 50 %
CAPACITY_CHANGED, INQUIRY_CHANGED, THRESHOLD = "2a09", "3f03", "3807"  # additional sense codes
REACHED = "thin provisioning soft threshold"  # what Linux says where one of its own commands meets it
LOOK_SECONDS = 2.0  # a new process looks at the space below its LUN within a second
DIED = r"worker process ended( \(SIGKILL\))?: initiators retry the commands under way"

End = Callable[[Daemon, int], None]


def killed_worker(daemon: Daemon, minor: int) -> None:
    victim, since = processes.worker(minor), daemon.position
    os.kill(victim, signal.SIGKILL)
    daemon.wait_for_log("served again", since=since)


def restart_by_command(daemon: Daemon, minor: int) -> None:
    _, hba, name, _ = (processes.UIO / f"uio{minor}/name").read_text().split("/", 3)
    command("tcmu-runner", "restart", f"user_{hba}/{name}")


def stopped_daemon(daemon: Daemon, minor: int) -> None:
    daemon.stop()
    daemon.start()


def killed_daemon(daemon: Daemon, minor: int) -> None:
    daemon.kill()
    eventually("the end of all its processes", lambda: not processes.all_of_the_daemon())
    daemon.start()


ENDS = [killed_worker, restart_by_command, stopped_daemon, killed_daemon]


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("settings") / "tcmu-runner.toml"
    settings.write_text("[devices.narrow]\nsoft_threshold = 50\n")
    return ("--settings", str(settings))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """An image of twice ROOM, which has written three quarters of the room that it has."""
    with small(tmp_path / "full", ROOM) as directory:
        image = directory / "disk.img"
        image.write_bytes(bytes(3 * ROOM // 4))
        os.truncate(image, 2 * ROOM)
        yield image


@pytest.fixture
def quiet_ends(expected_log: ExpectedLog) -> None:
    """What the log may say of them."""
    expected_log(DIED, optional=True)
    expected_log("the daemon has died: blocked 1 devices until it is back", optional=True)


def wce(disk: Path) -> bool:
    reply = raw(disk, SENSE_CACHING, receive=64)
    assert reply.status == GOOD, reply.text
    return bool(reply.data[4 + 2] & 0x04)


def protected(disk: Path) -> bool:
    reply = raw(disk, SENSE_CONTROL, receive=64)
    assert reply.status == GOOD, reply.text
    return bool(reply.data[4 + 4] & 0x08)


@pytest.mark.usefixtures("quiet_ends")
@pytest.mark.parametrize("end", ENDS)
def test_what_was_set_stays_set(
    end: End, daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """Linux believes in write-through, and would send no SYNCHRONIZE CACHE to a disk that caches again."""
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))
    assert raw(disk, SELECT_CACHING, send=WCE_OFF).status == GOOD
    assert raw(disk, SELECT_CONTROL, send=PROTECTED).status == GOOD
    end(daemon, processes.minor_of("vol0"))
    assert raw(disk, TEST_UNIT_READY).status == GOOD  # nothing to announce
    assert (wce(disk), protected(disk)) == (False, True)
    assert raw(disk, STOP).status == GOOD
    end(daemon, processes.minor_of("vol0"))
    assert "initializing command required" in raw(disk, TEST_UNIT_READY).text
    assert raw(disk, START).status == GOOD


def announced(send: Send) -> list[str]:
    """Takes all unit attentions that are queued: their additional sense codes."""
    found = []
    while (answer := send(bytes(6))).status == CHECK_CONDITION:
        descriptors = answer.sense[0] & 0x7F == 0x72
        found.append((answer.sense[2:4] if descriptors else answer.sense[12:14]).hex())
    return found


# (what the page calls it, how it is set, how it is seen afterwards)
KEPT = [
    ("D_SENSE", (SELECT_CONTROL, bytes(4) + bytes.fromhex(D_SENSE_SET)), (SENSE_CONTROL, 64)),
    ("results of self-tests", ("1d2000000000", b""), (SENSE_SELF_TESTS, 128)),
]


@pytest.mark.usefixtures("quiet_ends")
@pytest.mark.parametrize("end", ENDS)
def test_each_fact_outlasts_the_process(end: End, daemon: Daemon, loopback: Loopback, full: Path) -> None:
    """What is kept, what was queued and nobody has asked for, and what is other than it was."""
    narrow = Backstore.create("narrow", f"file/{full}", 2 * ROOM)
    narrow.enable()
    with kernel_log() as log, commands(loopback.add(narrow)) as send:
        eventually(
            "the threshold is announced", lambda: THRESHOLD in announced(send) or REACHED in log.text()
        )
        command("udevadm", "settle")  # which reads the disk, and would take what is queued next
        for _, (cdb, data), _ in KEPT:
            assert send(bytes.fromhex(cdb), send=data).status == GOOD
        before = {what: send(bytes.fromhex(cdb), receive=size) for what, _, (cdb, size) in KEPT}
        narrow.store("attrib/dev_size", 3 * ROOM)
        narrow.store("control", "hw_max_sectors=1024")  # of which the kernel says nothing
        end(daemon, processes.minor_of("narrow"))
        time.sleep(LOOK_SECONDS)
        assert announced(send) == [CAPACITY_CHANGED, INQUIRY_CHANGED]  # and not the threshold again
        assert {what: send(bytes.fromhex(cdb), receive=size) for what, _, (cdb, size) in KEPT} == before
        assert send(bytes.fromhex("ff" + "00" * 5)).sense[0] & 0x7F == 0x72  # sense data has descriptors


@pytest.mark.usefixtures("quiet_ends")
@pytest.mark.parametrize("end", ENDS)
def test_what_is_lost_is_announced(
    end: End, daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))
    assert raw(disk, "3b0a0000000000000400", send=b"echo").status == GOOD  # WRITE BUFFER, echo
    end(daemon, processes.minor_of("vol0"))
    assert raw(disk, TEST_UNIT_READY).status == UNIT_ATTENTION
    assert raw(disk, TEST_UNIT_READY).status == GOOD


@pytest.mark.usefixtures("quiet_ends")
@pytest.mark.parametrize("end", [killed_worker, killed_daemon])
def test_an_erasure_that_did_not_end_has_failed(
    end: End, daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """SANITIZE OVERWRITE, IMMED, 31 passes of a pattern that is not zeroes: it takes longer than the test."""
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 512 * MIB)
    disk = loopback.add(backstore)
    assert raw(disk, "48810000000000000800", send=bytes.fromhex("1f000004 deadbeef")).status == GOOD
    end(daemon, processes.minor_of("vol0"))
    assert "Sanitize command failed" in raw(disk, TEST_UNIT_READY).text
    disk = restored(backstore, loopback)
    assert "Sanitize command failed" in raw(disk, TEST_UNIT_READY).text
    assert raw(disk, "040000000000").status == GOOD  # FORMAT UNIT mends it
    assert raw(disk, TEST_UNIT_READY).status == GOOD


def restored(backstore: Backstore, loopback: Loopback) -> Path:
    """The disk, after its device was made anew as at a reboot of the target; its initiators are the same."""
    size, config = backstore.show("attrib/dev_size"), backstore.show("attrib/dev_config")
    loopback.remove()
    backstore.remove()
    again = Backstore.create(backstore.name, config, int(size), hba=3)
    again.enable()
    return loopback.add(again)


def test_write_through_alone_outlasts_a_restore_of_the_configuration(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The other facts have their default values, and nothing is announced."""
    backstore = make_backstore(f"file/{tmp_path}/disk.img")
    disk = loopback.add(backstore)
    with commands(disk) as send:
        self_tests = send(bytes.fromhex(SENSE_SELF_TESTS), receive=128)
        assert send(bytes.fromhex(SELECT_CACHING), send=WCE_OFF).status == GOOD
        for _, (cdb, data), _ in KEPT:
            assert send(bytes.fromhex(cdb), send=data).status == GOOD
        assert send(bytes.fromhex(SELECT_CONTROL), send=PROTECTED).status == GOOD
        assert send(bytes.fromhex(STOP)).status == GOOD
        backstore.store("attrib/dev_size", 96 * MIB)  # a unit attention that nobody takes
    disk = restored(backstore, loopback)
    assert Backstore("vol0", 3).show("attrib/emulate_write_cache") == "0"
    with commands(disk) as send:
        assert announced(send) == []
        assert send(bytes.fromhex(SENSE_SELF_TESTS), receive=128) == self_tests
    assert (wce(disk), protected(disk)) == (False, False)


@pytest.mark.usefixtures("quiet_ends")
@pytest.mark.parametrize("end", ENDS)
def test_a_size_written_into_control_is_announced(
    end: End,
    daemon: Daemon,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:
    expected_log(rf"user_0/vol0.*size changed from {64 * MIB} to {96 * MIB} bytes without notice")
    backstore = make_backstore(f"file/{tmp_path}/disk.img", 64 * MIB)
    disk = loopback.add(backstore)
    backstore.store("control", f"dev_size={96 * MIB}")
    assert raw(disk, TEST_UNIT_READY).status == GOOD  # the kernel tells nobody
    end(daemon, processes.minor_of("vol0"))
    assert "Capacity data has changed" in raw(disk, TEST_UNIT_READY).text
    assert raw(disk, TEST_UNIT_READY).status == GOOD


@pytest.mark.parametrize(("config", "cached"), [("file/{}/disk.img", True), ("ram/", False)])
def test_the_write_cache_is_shown_and_not_switched(
    config: str, cached: bool, make_backstore: MakeBackstore, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    backstore = make_backstore(config.format(tmp_path))
    assert backstore.show("attrib/emulate_write_cache") == str(int(cached))
    backstore.store("attrib/emulate_write_cache", int(cached))  # as restoreconfig does
    with pytest.raises(OSError, match="emulate_write_cache") as refusal:
        backstore.store("attrib/emulate_write_cache", int(not cached))
    assert refusal.value.errno == errno.EOPNOTSUPP
    assert backstore.show("attrib/emulate_write_cache") == str(int(cached))
    expected_log(r"user_0/vol0.*emulate_write_cache shows the write cache and does not switch it")


def test_a_size_that_is_written_again_is_no_news(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    backstore, since = make_backstore("ram/", 64 * MIB), daemon.position
    backstore.store("attrib/dev_size", 64 * MIB)
    backstore.store("attrib/dev_size", 32 * MIB)
    daemon.wait_for_log("resized to 32 MiB", since=since)
    assert "resized to 64 MiB" not in daemon.text(since)


@pytest.mark.usefixtures("quiet_ends")
def test_linux_and_the_disk_agree(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The report: sdparm, rescan, a dead worker."""
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))
    cache_type = next((loopback.scsi_device() / "scsi_disk").iterdir()) / "cache_type"
    assert raw(disk, SELECT_CACHING, send=WCE_OFF).status == GOOD
    store(loopback.scsi_device() / "rescan", 1)
    assert cache_type.read_text().strip() == "write through"
    killed_worker(daemon, processes.minor_of("vol0"))
    assert not wce(disk)
    store(loopback.scsi_device() / "rescan", 1)
    assert cache_type.read_text().strip() == "write through"
