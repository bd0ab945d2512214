"""What docs/rescue.md says for the case that neither the daemon nor its guardian answers, line by line.

test_stops.py has what these two do by themselves. Seen by hand, since it takes long: a handler that does not
close is killed after 20 s, and Linux gives a blocked disk's command up after six times its timeout.
"""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, attempt, background, command, eventually, kernel_stack
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback

PAGE = Path(__file__).parents[2] / "docs/rescue.md"
WAITS, UNLINKS, LOCKED = "tcmu_netlink_event_send", "tcm_loop_port_unlink", "configfs_dir_open"
"""Functions of the kernel in which the administrators' commands sleep."""
SOON_SECONDS = 30  # nothing here takes so long by itself


def lines_of(page: str, after: str) -> list[str]:
    """The commands that the page shows next after some words, for user_0/vol0."""
    block = re.search(r"\n\n((?:    \S.*\n)+)", page.partition(after)[2])
    assert block, f"{PAGE} has no commands after {after!r}"
    return [line.strip().replace("user_N/NAME", "user_0/vol0") for line in block[1].splitlines()]


def shell(*lines: str) -> None:
    for line in lines:
        command("sh", "-c", line)


def answered(answer: str, process: "subprocess.Popen[bytes]") -> bool:
    """Whether the process has ended, after one more answer to what it waits for."""
    shell(answer)
    return process.poll() is not None


def daemon_and_guardian() -> list[int]:
    return processes.named(processes.SUPERVISOR) + processes.named(processes.GUARDIAN)


def signal_both(number: signal.Signals) -> None:
    for pid in daemon_and_guardian():
        os.kill(pid, number)


@contextmanager
def enabling(backstore: Backstore, said: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """dash, whose `echo 1 > enable` waits in the kernel since nobody answers."""
    with said.open("wb") as file:
        line = ["sh", "-c", f"echo 1 > {backstore.path}/enable"]
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    eventually("the wait", lambda: WAITS in kernel_stack(process.pid))
    try:
        yield process
    finally:
        process.wait(SOON_SECONDS)


def stay_away(daemon: Daemon) -> None:
    """Nobody answers for the LUNs, not even the process that stays behind for their unlinking."""
    daemon.stop()
    for pid in processes.named(processes.STAYING):
        os.kill(pid, signal.SIGKILL)


def test_without_a_daemon_an_attribute_is_refused(daemon: Daemon, make_backstore: MakeBackstore) -> None:
    backstore = make_backstore("ram/")
    daemon.stop()
    with pytest.raises(OSError, match="dev_size") as refusal:
        backstore.store("attrib/dev_size", 32 * MIB)
    assert refusal.value.errno == errno.ESRCH
    assert backstore.show("attrib/dev_size") == str(64 * MIB)


def test_both_are_stopped(daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path) -> None:
    """`doctor` names the wait and its cause within seconds, and gives the lines that the page has."""
    expected_log(r"user_0/vol0 \(ram/\): (refused|cannot be taken over): uio\d+ is gone", optional=True)
    expected_log("the daemon has been silent for 10 s", optional=True)
    expected_log("event loop stalled: kernel waits were released", optional=True)
    backstore, said = Backstore.create("vol0", "ram/", 64 * MIB), tmp_path / "said"
    by_hand = lines_of(PAGE.read_text(), "if they have to stay stopped")
    signal_both(signal.SIGSTOP)
    with enabling(backstore, said) as shell_of_the_administrator:
        found = attempt("tcmu-runner", "doctor", seconds=SOON_SECONDS).output
        assert f"sleep until one does: sh ({shell_of_the_administrator.pid})" in found
        assert "daemon: stopped by a signal: tcmu-runner (" in found
        assert re.findall("fix: (.*)", found)[:4] == by_hand
        shell(*by_hand)
    assert (shell_of_the_administrator.returncode, "I/O error" in said.read_text()) == (1, True)
    (proceed,) = re.findall("fix: (kill -CONT .*)", found)
    shell(proceed)
    since = daemon.position
    eventually(
        "new devices are taken again",
        lambda: attempt("sh", "-c", f"echo 1 > {backstore.path}/enable").status == 0,
    )
    daemon.wait_for_log(r"user_0/vol0 \(ram/\): (added|taken over), 64 MiB", since=since)


@pytest.mark.parametrize("rescue", ["release", "start"])
def test_both_were_killed(daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path, rescue: str) -> None:
    """dash repeats the write that was interrupted: it succeeds, or fails while a daemon starts."""
    expected_log(r"user_0/vol0 \(ram/\): cannot be taken over", optional=True)
    backstore, said = Backstore.create("vol0", "ram/", 64 * MIB), tmp_path / "said"
    signal_both(signal.SIGSTOP)
    with enabling(backstore, said) as shell_of_the_administrator:
        signal_both(signal.SIGKILL)
        assert daemon.process is not None
        daemon.process.wait(GENEROUS)
        daemon.process = None
        eventually("the end of all its processes", lambda: not processes.all_of_the_daemon())
        assert WAITS in kernel_stack(shell_of_the_administrator.pid)
        if rescue == "release":
            command("tcmu-runner", "release")
        else:
            daemon.start()
    if shell_of_the_administrator.returncode:
        assert (rescue, "I/O error" in said.read_text()) == ("start", True)
        backstore.enable()
    assert backstore.show("enable") == "1"
    if rescue == "release":
        daemon.start()
    daemon.wait_for_log(r"user_0/vol0 \(ram/\): (added|taken over), 64 MiB")


@pytest.mark.parametrize("alua", [1, 0])
def test_unlinking_by_hand(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path, alua: int
) -> None:
    """Without ALUA `release` cannot know which device it is."""
    backstore = make_backstore(f"file/{tmp_path}/disk.img")  # which Linux flushes, unlike ram
    backstore.store("attrib/alua_support", alua)
    loopback.add(backstore)
    stay_away(daemon)
    unblock, answer = lines_of(PAGE.read_text(), "By hand: repeat the second line")
    directory = loopback.group / "lun/lun_0"
    with background("rm", directory / backstore.name) as remover:
        eventually("the wait", lambda: UNLINKS in kernel_stack(remover.pid), SOON_SECONDS)
        with background("ls", directory) as listing:
            eventually("that ls sleeps", lambda: LOCKED in kernel_stack(listing.pid), SOON_SECONDS)
            if not alua:
                command("tcmu-runner", "release")
                assert remover.poll() is None
            shell(unblock)
            eventually("the end of rm", lambda: answered(answer, remover), SOON_SECONDS)
        assert remover.returncode == 0


def test_a_device_that_stays_blocked_can_be_made_to_answer(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """With `cmd_time_out` 0 nothing else ends what is on the ring."""
    backstore = make_backstore(f"file/{tmp_path}/disk.img")
    backstore.store("attrib/cmd_time_out", 0)
    disk, page = loopback.add(backstore), PAGE.read_text()
    stay_away(daemon)
    (unblock,), (answer,) = lines_of(page, "To have the kernel fail it"), lines_of(page, "The next line ends")
    read = ("dd", f"if={disk}", "of=/dev/null", "bs=4k", "count=1", "skip=100", "iflag=direct")
    with background(*read) as reader:
        eventually("the read waits", lambda: "io_schedule" in kernel_stack(reader.pid), SOON_SECONDS)
        assert backstore.show("action/block_dev") == "blocked"
        shell(unblock)
        assert reader.poll() is None
        eventually("the end of the read", lambda: answered(answer, reader), SOON_SECONDS)
        assert reader.returncode == 1
