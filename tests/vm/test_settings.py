"""Settings that are edited while a daemon serves LUNs: what is said at once, and what is refused."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import disk as raw
from support import processes
from support.daemon import Daemon
from support.deadline import command, eventually
from support.fixtures import ExpectedLog, MakeBackstore
from support.loopback import Loopback

DIRECTORY = Path("/etc/tcmu")
CONF, TOML = DIRECTORY / "tcmu.conf", DIRECTORY / "tcmu-runner.toml"
LOG = Path("/var/log/tcmu-runner.log")


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Debian's C daemon has its own tcmu.conf in the image, in which everything is commented out."""
    before = CONF.read_bytes() if CONF.exists() else None
    yield
    TOML.unlink(missing_ok=True)
    if before is not None:
        CONF.write_bytes(before)
    else:
        CONF.unlink(missing_ok=True)


def edit(file: Path, text: str) -> None:
    """As editors do."""
    file.parent.mkdir(exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def test_the_log_level_changes_live_also_of_the_process_that_serves(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback
) -> None:
    disk = loopback.add(make_backstore("ram/"))
    since = daemon.position
    edit(CONF, "log_level = 5\n")
    daemon.wait_for_log(r"\[INFO\] logging to /var/log/tcmu-runner.log, level COMMAND and above", since=since)
    command("sg_turs", disk)
    daemon.wait_for_log(r"\[COMMAND\] user_0/vol0: 00 00 00 00 00 00", since=since)
    since = daemon.position
    edit(CONF, "log_level = 3\n")
    daemon.wait_for_log("level INFO and above", since=since)
    since = daemon.position
    command("sg_turs", disk)
    assert "[COMMAND]" not in daemon.text(since)


def test_a_broken_edit_is_refused_with_line_and_remedy(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog
) -> None:
    expected_log(r"/etc/tcmu/tcmu.conf: line 2: log_level = loud: write a number from 0 .*old settings stay")
    expected_log(r"/etc/tcmu/tcmu-runner.toml: line 2: workers.processes = -1: write .*old settings stay")
    since = daemon.position
    edit(CONF, "# a comment\nlog_level = loud\n")
    edit(TOML, "[workers]\nprocesses = -1\n")
    daemon.wait_for_log("tcmu.conf: line 2", since=since)
    daemon.wait_for_log("toml: line 2", since=since)
    make_backstore("ram/").remove()


def test_a_device_gets_its_new_limits_and_stacks_come_while_it_is_used(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback
) -> None:
    disk = loopback.add(make_backstore("ram/"))
    raw.write(disk, 0, b"kept" * 1024)
    since = daemon.position
    stack = '[stacks.seen]\nhandler = "ram"\nfilters = [{ filter = "stats" }]\n'
    edit(TOML, stack + '[devices."user_0/*"]\nvendor = "ACME"\nmax_unmap = 64\n')
    daemon.wait_for_log("user_0/vol0.*: settings changed: applied identity and limits", since=since)
    eventually("the new vendor", lambda: "ACME" in command("sg_inq", disk))
    assert "Maximum unmap LBA count: 64" in command("sg_vpd", "--page=bl", disk)
    assert raw.read(disk, 0, 4096) == b"kept" * 1024
    make_backstore("seen/").remove()


def test_a_renamed_log_is_opened_anew(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    """As logrotate does it. The process that serves the LUN writes to the new file, too."""
    backstore = make_backstore("ram/")
    rotated = LOG.with_suffix(".log.1")
    since = daemon.position
    LOG.rename(rotated)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_log("logging to", since=since)
    (worker,) = processes.named(processes.WORKER)
    eventually("the worker's new log", lambda: str(LOG) in files_of(worker))
    backstore.remove()
    eventually("the removal in the new log", lambda: "user_0/vol0 (ram/): removed" in LOG.read_text())
    assert "removed" not in rotated.read_text().rpartition("user_0/vol0 (ram/): added")[2]


def files_of(pid: int) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
