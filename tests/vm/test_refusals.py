"""A device that cannot be served: `enable` fails at once with the right errno, the log says why and the way
out, and nothing is in the way of another try."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import eventually
from support.fixtures import MIB, ExpectedLog
from support.handlers import handler_path


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    return handler_path()


def refused(backstore: Backstore) -> int:
    with pytest.raises(OSError, match="enable") as caught:
        backstore.enable()
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize(
    ("config", "control", "code", "reason"),
    [
        ("nosuch/thing", {}, errno.ENOENT, "no handler 'nosuch'; available: .*file"),
        ("fil//tmp/x", {}, errno.ENOENT, "no handler 'fil'"),  # prior-art 2.1 #11: prefixes matched
        ("r/", {}, errno.ENOENT, "no handler 'r'"),
        ("file", {}, errno.EINVAL, "names no handler"),
        ("file/relative", {}, errno.EINVAL, "not absolute.*two slashes"),
        ("file//tmp/x;colour=red", {}, errno.EINVAL, "unknown option 'colour'"),
        ("file//nowhere/at/all.img", {}, errno.ENOENT, "/nowhere/at.*(create|correct)"),
        ("file//tmp", {}, errno.EISDIR, "/tmp.*name a file"),
        ("file//dev/nosuchdisk", {}, errno.ENOENT, "/dev/nosuchdisk"),
        ("ram/", {"dev_size": 1000}, errno.EINVAL, "dev_size=1000 is not a multiple of the block size 512"),
        ("ram/", {"dev_size": 0}, errno.EINVAL, "dev_size is not set"),
        ("ram/", {"hw_block_size": 520}, errno.EINVAL, "hw_block_size=520 is not one of 512"),
        ("ram/extra", {}, errno.EINVAL, "ram takes no configuration"),
        ("ram/;tcmur_cmd_time_out=soon", {}, errno.EINVAL, "tcmur_cmd_time_out.*number of seconds"),
    ],
)
def test_a_refusal_says_why(
    daemon: Daemon,
    expected_log: ExpectedLog,
    config: str,
    control: dict[str, str | int],
    code: int,
    reason: str,
) -> None:
    expected_log(rf"user_0/bad \({config}\): refused: .*{reason}")
    backstore = Backstore.create("bad", config, 64 * MIB, control=control)
    began = time.monotonic()
    found = refused(backstore)
    took = time.monotonic() - began
    print(f"refused in {took:.2f} s")
    assert errno.errorcode[found] == errno.errorcode[code]
    backstore.remove()
    assert processes.uio_devices() == []
    good = Backstore.create("good", "ram/", 64 * MIB)
    good.enable()


def test_refusals_take_no_time(daemon: Daemon, expected_log: ExpectedLog) -> None:
    """Below a second, even here."""
    expected_log("refused: .*no handler 'nosuch'")
    backstore = Backstore.create("bad", "nosuch/thing", 64 * MIB)
    times = []
    for _ in range(5):
        began = time.monotonic()
        refused(backstore)
        times.append(time.monotonic() - began)
    assert min(times) < 1, times


def test_an_open_that_hangs_is_refused(daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path) -> None:
    """No event is left unanswered; the worker that hangs goes, and the next try finds nothing in its way."""
    expected_log(r"user_0/slow \(slowopen/\S+\): refused: .*did not answer in time")
    gate = tmp_path / "gate"
    slow = Backstore.create("slow", f"slowopen/{gate}", 64 * MIB)
    assert errno.errorcode[refused(slow)] == "ETIMEDOUT"
    gate.touch()
    slow.enable()
    assert len(processes.named(processes.WORKER)) == 1


def test_an_open_that_dies_is_refused(daemon: Daemon, expected_log: ExpectedLog) -> None:
    expected_log(r"user_0/dead \(deadopen/\): refused: worker process ended")
    dead = Backstore.create("dead", "deadopen/", 64 * MIB)
    assert errno.errorcode[refused(dead)] == "EIO"
    dead.remove()
    Backstore.create("good", "ram/", 64 * MIB).enable()


def test_slow_opens_hold_up_nobody_else(daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path) -> None:
    """Six dead storages at once, more than are opened at a time; a good one is made meanwhile."""
    expected_log(r"refused: .*did not answer in time")
    slow = [Backstore.create(f"slow{n}", f"slowopen/{tmp_path}/gate", 64 * MIB) for n in range(6)]
    with ThreadPoolExecutor(len(slow)) as pool:
        waiting = [pool.submit(refused, backstore) for backstore in slow]
        eventually("all of them to wait", lambda: len(processes.uio_devices()) == len(slow))
        Backstore.create("good", "ram/", 64 * MIB).enable()
        assert not any(future.done() for future in waiting)
        assert {errno.errorcode[future.result()] for future in waiting} == {"ETIMEDOUT"}
