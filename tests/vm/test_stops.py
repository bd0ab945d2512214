"""The daemon stopped, killed or absent: no administrator's command hangs, and I/O is held, not failed."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, attempt, background, command, eventually
from support.fio import Job, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback

BOUND_SECONDS = 110  # in which an unlinking ends without a daemon (docs/rescue.md)
AT_ONCE_SECONDS = 20  # less than the half minute after which it would end by itself
RESTARTS = int(os.environ.get("TCMU_TEST_RESTARTS", "3"))  # issue: 20 for the full count
INTERVAL = 3.0  # seconds over which CPU time is measured
ASLEEP_SECONDS = 6.0  # in which an idle worker does not run at all
C_DAEMON = "/usr/bin/tcmu-runner"


def test_idle_workers_are_not_woken(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    """Nor is the fork server: only the supervisor wakes by itself, and its beats wake the guardian."""
    make_backstore("ram/")
    beating = {daemon.pid, *processes.named(processes.GUARDIAN)}
    others = sorted({*processes.all_of_the_daemon()} - beating)
    processes.sleep_of(*others)
    before = {pid: processes.switches(pid) for pid in others}
    time.sleep(ASLEEP_SECONDS)
    assert {pid: processes.switches(pid) for pid in others} == before
    make_backstore("ram/").remove()


def taken(backstore: Backstore) -> bool:
    """False: the kernel refuses it, as it does while the daemon looks at all devices."""
    try:
        backstore.enable()
    except BlockingIOError:
        return False
    return True


def test_a_stopped_daemon_hangs_no_command(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog
) -> None:
    """SIGSTOP: the guardian ends what waits; after SIGCONT the daemon finds out what has happened."""
    expected_log("the daemon has been silent for 10 s")
    expected_log("event loop stalled: kernel waits were released")
    tries = r"user_0/new \(ram/\): (refused|cannot be taken over): uio\d+ is gone"
    expected_log(tries, optional=True)  # those that failed
    present = make_backstore("ram/")
    removed = make_backstore("ram/")
    workers = processes.named(processes.WORKER)
    daemon.signal(signal.SIGSTOP)
    new = Backstore.create("new", "ram/", 64 * MIB)
    with pytest.raises(OSError, match="enable") as caught:
        new.enable()
    assert caught.value.errno == errno.EINTR
    removed.remove()
    daemon.signal(signal.SIGCONT)
    daemon.wait_for_log("rescanning devices")
    since = daemon.position
    eventually("new devices are taken again", lambda: taken(new))
    daemon.wait_for_log(r"user_0/new \(ram/\): (added|taken over), 64 MiB", since=since)
    daemon.wait_for_log(r"user_0/vol1 \(ram/\): removed")
    assert processes.worker(processes.minor_of("vol0")) in workers
    assert present.show("action/block_dev") == "unblocked"


def test_a_killed_daemon_hangs_no_command_and_holds_io(
    daemon: Daemon,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:
    """SIGKILL of the supervisor: workers go with it, the guardian tidies up, a new daemon takes over."""
    expected_log("the daemon has died: blocked 2 devices until it is back")
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))
    spare = make_backstore("ram/")
    with verifying(Job(disk, 8 * MIB)) as fio:
        daemon.kill()
        eventually("the end of all its processes", lambda: not processes.all_of_the_daemon())
        spare.remove()
        Backstore.create("absent", "ram/", 64 * MIB).enable()  # nobody is there to refuse it
        fio.check()
        daemon.start()
        fio.progress(200)
    daemon.wait_for_log(r"user_0/absent \(ram/\): taken over")


def test_the_daemon_can_be_absent(daemon: Daemon, loopback: Loopback) -> None:
    """Devices can be made and removed without it; it takes them over when it comes."""
    daemon.stop()
    backstore, other = (Backstore.create(name, "ram/", 64 * MIB) for name in ("early", "gone"))
    backstore.enable()
    other.enable()
    other.remove()
    daemon.start()
    daemon.wait_for_log(r"user_0/early \(ram/\): taken over, 64 MiB")
    daemon.wait_for_log(r"\d+ handlers found, 1 devices found")
    loopback.add(backstore)


def test_without_its_guardian_the_daemon_goes_on(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog
) -> None:
    """And without the daemon's end of the line to it costing any time."""
    expected_log("the guardian process has ended: .*restart tcmu-runner")
    (guardian,) = processes.named(processes.GUARDIAN)
    os.kill(guardian, signal.SIGKILL)
    eventually("its end", lambda: not processes.named(processes.GUARDIAN))
    make_backstore("ram/").remove()
    before = processes.cpu_seconds(daemon.pid)
    time.sleep(INTERVAL)
    assert processes.cpu_seconds(daemon.pid) - before < INTERVAL / 4
    make_backstore("ram/").remove()
    daemon.stop()  # the next one has a guardian again


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_lun_can_be_removed_though_its_daemon_stays_away(
    daemon: Daemon,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    end: str,
    tmp_path: Path,
) -> None:
    """Its disk's last flush is held like all I/O, for 18 minutes, if nobody answers it (docs/rescue.md)."""
    expected_log("the daemon has died: blocked 1 devices", optional=True)
    expected_log("user_0/vol0: unlinked without a daemon")
    backstore = make_backstore(f"file/{tmp_path}/disk.img")  # which Linux flushes, unlike ram
    loopback.add(backstore)
    if end == "stopped":
        daemon.stop()
    else:
        daemon.kill()
    with background("rm", loopback.group / "lun/lun_0" / backstore.name) as remover:
        eventually("the wait", lambda: "rm (" in attempt("tcmu-runner", "doctor").output)
        assert remover.wait(BOUND_SECONDS) == 0
    loopback.delete()
    backstore.remove()
    eventually("the end of what stayed", lambda: not processes.named(processes.STAYING))


def test_release_ends_the_unlinking_at_once(
    daemon: Daemon,
    make_backstore: MakeBackstore,
    loopback: Loopback,
    expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:
    expected_log("user_0/vol0: unlinked without a daemon", optional=True)
    backstore = make_backstore(f"file/{tmp_path}/disk.img")  # which Linux flushes, unlike ram
    loopback.add(backstore)
    daemon.stop()
    with background("rm", loopback.group / "lun/lun_0" / backstore.name) as remover:
        eventually("the wait", lambda: "rm (" in attempt("tcmu-runner", "doctor").output)
        command("tcmu-runner", "release")
        assert remover.wait(AT_ONCE_SECONDS) == 0
    loopback.delete()
    backstore.remove()
    eventually("the end of what stayed", lambda: not processes.named(processes.STAYING))


def test_restarts_under_load_cost_no_error(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """SIGTERM and a new start, as systemctl restart does."""
    disk = loopback.add(make_backstore(f"file/{tmp_path}/disk.img"))
    with verifying(Job(disk, 8 * MIB)) as fio:
        for _ in range(RESTARTS):
            daemon.stop()
            assert processes.all_of_the_daemon() == []
            daemon.start()
            fio.progress(50)


def refused_start(log: Path) -> str:
    """What a daemon says that may not start."""
    second = Daemon(log)
    second.launch()
    assert second.process is not None
    assert second.process.wait(GENEROUS) == 1
    return second.text()


def test_a_second_daemon_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    told = refused_start(tmp_path / "second.log")
    assert f"/run/tcmu.lock is locked by process {daemon.pid} (" in told
    Backstore.create("vol0", "ram/", 64 * MIB).enable()  # the first one has not noticed


def test_the_c_daemon_is_noticed(daemon: Daemon, tmp_path: Path) -> None:
    """It holds the same lock (prior-art 1.1)."""
    daemon.stop()
    with background(C_DAEMON, "--tcmu-log-dir", tmp_path) as other:
        eventually("the C daemon's lock", lambda: f" {other.pid} " in Path("/proc/locks").read_text())
        assert f"is locked by process {other.pid} (" in refused_start(tmp_path / "ours.log")
        assert other.poll() is None


def test_it_starts_without_a_configuration(daemon: Daemon) -> None:
    """prior-art 2.1 #13: the C daemon ends when /etc/tcmu/tcmu.conf is missing."""
    assert not Path("/etc/tcmu/tcmu-runner.toml").exists()
    assert daemon.running
