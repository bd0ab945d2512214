"""A LUN has its own data or is refused: files of filters, a missing image, two LUNs on one file."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import command, eventually
from support.disk import opened
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback

NOTES = Path("/var/lib/tcmu-runner/served")
MINE, OTHER = b"A" * MIB, b"B" * MIB


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    directory = tmp_path_factory.mktemp("beside")
    settings = directory / "settings.toml"
    cache = f'{{ filter = "cache", directory = "{directory}", mode = "write-back", size = "16M" }}'
    settings.write_text(f'[stacks.back]\nhandler = "file"\nfilters = [{cache}]\n')
    return ("--settings", str(settings))


def refused(backstore: Backstore) -> int:
    with pytest.raises(OSError, match="enable") as caught:
        backstore.enable()
    assert caught.value.errno is not None
    return caught.value.errno


def test_writes_in_a_cache_do_not_go_into_another_file(
    daemon: Daemon, loopback: Loopback, make_backstore: MakeBackstore, tmp_path: Path,
    expected_log: ExpectedLog,
) -> None:  # fmt: skip
    image, kept, other = tmp_path / "a.img", tmp_path / "kept.img", OTHER.ljust(64 * MIB, b"\0")
    backstore = make_backstore(f"back/{image}")
    with opened(loopback.add(backstore)) as disk:
        disk.write(0, MINE)  # which the cache keeps: nobody flushes
    command("udevadm", "settle")  # it reads a disk after each writer; without a daemon it would wait
    daemon.kill()
    image.rename(kept)
    image.write_bytes(other)
    expected_log("the daemon has died")
    expected_log(r"cannot be taken over: cache .* belongs to back/.*a\.img .* serve that one again")
    since = daemon.position
    daemon.start()
    daemon.wait_for_log("cannot be taken over", since=since)
    assert image.read_bytes() == other
    image.unlink()
    kept.rename(image)
    daemon.stop()
    daemon.start()
    loopback.remove()
    backstore.remove()
    assert image.read_bytes()[:MIB] == MINE


def test_an_image_that_is_gone_is_not_made_anew(
    daemon: Daemon, make_backstore: MakeBackstore, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    image = tmp_path / "a.img"
    backstore = make_backstore(f"file/{image}")
    minor = processes.minor_of(backstore.name)
    image.unlink()
    expected_log("worker process ended")
    expected_log("is missing, and .* is no new LUN: .*truncate -s", optional=True)
    expected_log("failed .* times in a row", optional=True)
    since = daemon.position
    os.kill(processes.worker(minor), signal.SIGKILL)
    daemon.wait_for_log("times in a row", since=since)
    assert not image.exists()
    image.touch()
    eventually("its service", lambda: "served again" in daemon.text(since))
    backstore.remove()


def test_after_a_boot_it_is_not_made_anew_either(
    daemon: Daemon, make_backstore: MakeBackstore, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    image = tmp_path / "a.img"
    backstore = make_backstore(f"file/{image}")
    name, config = backstore.name, f"file/{image}"
    backstore.remove()
    image.unlink()
    for note in NOTES.iterdir():  # as the machine's earlier run has left them
        note.write_text("another boot\n")
    expected_log("refused: .*is missing, and .* is no new LUN: ")
    again = Backstore.create(name, config, 64 * MIB)
    assert refused(again) == errno.ENOENT
    assert not image.exists()
    image.touch()
    again.enable()
    again.remove()


def test_the_second_lun_on_a_file_is_refused(
    daemon: Daemon, make_backstore: MakeBackstore, tmp_path: Path, expected_log: ExpectedLog
) -> None:
    first = make_backstore(f"file/{tmp_path}/a.img")
    expected_log(rf"user_0/second .* refused: .*a\.img is in use by user_0/{first.name}, and two that write")
    second = Backstore.create("second", f"file/{tmp_path}/a.img", 64 * MIB)
    assert refused(second) == errno.EBUSY
    second.remove()
    first.remove()
