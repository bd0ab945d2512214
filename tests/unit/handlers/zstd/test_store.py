"""Crashes: copies of the files as a power loss or the end of the process may leave them."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcmu_runner.handlers.zstd.store import Store

FLUSHED = {number: bytes([number]) * 3000 for number in range(40)}
LATER = {number: bytes([number + 100]) * 3000 for number in range(20, 60)}


def commit(store: Store, chunks: dict[int, bytes]) -> None:
    for chunk in chunks.items():
        store.commit([chunk])


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Files of a store in which FLUSHED was flushed and LATER not, and how long the log was at the flush."""
    directory = tmp_path_factory.mktemp("crashed")
    path = directory / "live.zdb"
    store = Store.open(path)
    commit(store, FLUSHED)
    store.flush()
    log = Path(f"{path}-wal")
    flushed = log.stat().st_size
    assert path.stat().st_size < flushed, "there was a checkpoint: the test is about the log"
    commit(store, LATER)
    for source in (path, log):
        shutil.copy(source, directory / source.name.replace("live", "dead"))
    store.close()
    return directory / "dead.zdb", flushed


def revived(crashed: tuple[Path, int], log: bytes) -> dict[int, bytes]:
    """What is there after a power loss that left this log."""
    path = crashed[0].with_name("revived.zdb")
    shutil.copy(crashed[0], path)
    Path(f"{path}-wal").write_bytes(log)
    store = Store.open(path)
    found = store.frames(0, 1000)
    assert store._database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store.close()
    path.unlink()
    return found


def test_the_end_of_the_process_loses_nothing(crashed: tuple[Path, int]) -> None:
    log = Path(f"{crashed[0]}-wal").read_bytes()
    assert revived(crashed, log) == {**FLUSHED, **LATER}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_power_loss_loses_nothing_that_was_flushed(crashed: tuple[Path, int], data: st.DataObject) -> None:
    """Of the log's pages since the flush any are missing, as zeroes or as something old; or its end is."""
    log = bytearray(Path(f"{crashed[0]}-wal").read_bytes())
    flushed = crashed[1]
    pages = range(-(-flushed // 4096), len(log) // 4096)
    fates = data.draw(
        st.binary(min_size=len(pages), max_size=len(pages))
    )  # one draw: a page each takes longer
    for page, fate in zip(pages, fates, strict=True):
        if fate & 3 > 1:  # 0 and 1: it was written
            junk = bytes(4096) if fate & 3 == 2 else random.Random(page).randbytes(4096)
            log[page * 4096 : (page + 1) * 4096] = junk
    del log[data.draw(st.integers(flushed, len(log))) :]
    found = revived(crashed, bytes(log))
    for number, frame in FLUSHED.items():
        assert found[number] in (frame, LATER.get(number))
    for number in set(found) - set(FLUSHED):
        assert found[number] == LATER[number]


PROGRAM = """
import sys
from pathlib import Path
from tcmu_runner.handlers.zstd.store import Store
store = Store.open(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    store.commit([(number % 500, number.to_bytes(4, "big") * 2000)])
    print(number, flush=True)
    number += 1
"""


def test_kill_9_loses_nothing_that_was_said_to_be_done(tmp_path: Path) -> None:
    """With checkpoints in between: the log is full every few hundred commits."""
    path, number = tmp_path / "disk.zdb", 0
    for turn in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(number + 1)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        for _ in range(300 + 97 * turn):
            number = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        number = max([number, *map(int, child.stdout.read().split())])
        child.wait()
        child.stdout.close()
        store = Store.open(path)
        for chunk, frame in store.frames(0, 499).items():
            value = int.from_bytes(frame[:4], "big")
            assert frame == value.to_bytes(4, "big") * 2000
            newest = number - (number - chunk) % 500
            assert value == newest or value == number + 1  # the one that nobody was told of
        store.close()


def test_one_that_fails_does_not_fail_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits that share a transaction: one has no space."""
    store = Store.open(tmp_path / "disk.zdb")
    transact = store._transact

    def full(changes: list[tuple[int, bytes | None]]) -> None:
        if any(number == 13 for number, _ in changes):
            raise OSError(errno.ENOSPC, "full")
        transact(changes)

    monkeypatch.setattr(store, "_transact", full)
    failed: list[int] = []

    def go(number: int) -> None:
        try:
            store.commit([(number, b"x")])
        except OSError:
            failed.append(number)

    with store._lock:  # all of them wait
        threads = [threading.Thread(target=go, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        while len(store._waiting) < 20:
            pass
    for thread in threads:
        thread.join()
    assert failed == [13]
    assert set(store.frames(0, 100)) == set(range(20)) - {13}
    store.close()


def test_it_is_one_process_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    store = Store.open(path)
    with pytest.raises(OSError, match="another process or LUN has it open") as error:
        Store.open(path)
    assert error.value.errno == errno.EBUSY
    store.close()
    Store.open(path).close()


def test_what_is_something_else_stays_as_it_is(tmp_path: Path) -> None:
    text, other, newer = (tmp_path / name for name in ("text", "other.db", "newer.zdb"))
    text.write_bytes(b"no database " * 1000)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    Store.open(newer).close()
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    for path, why in (
        (text, "it is no database"),
        (other, "database of something else"),
        (newer, "newer tcmu-runner"),
    ):
        before = path.read_bytes()
        with pytest.raises(OSError, match=why):
            Store.open(path)
        assert path.read_bytes() == before


def test_a_database_without_permission_is_said(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    Store.open(path).close()
    if os.getuid() == 0:
        path = Path("/proc/disk.zdb")
    else:
        path.chmod(0)
    with pytest.raises(OSError, match=str(path)):
        Store.open(path)


def test_a_damaged_database_is_an_error_of_the_medium(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    store = Store.open(path)
    commit(store, {number: random.Random(number).randbytes(9000) for number in range(200)})
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(50, size // 4096):  # behind what is read when it is opened
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    store = Store.open(path)
    with pytest.raises(OSError) as error:
        store.frames(0, 199)
    assert error.value.errno == errno.EIO
    store.close()
