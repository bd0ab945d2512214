"""Files that are whole, and locked."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
from support.clock import ManualClock

from tcmu_runner import files


def test_a_text_is_there_or_the_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "of/ours/vol.0"
    files.write_whole(path, "before")
    files.write_whole(path, "after")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, "never")
    assert path.read_text() == "after"


def test_each_has_a_draft_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two LUNs begin at the same moment, on two threads; their files differ in what looks like a suffix."""
    fsync = os.fsync

    def another_meanwhile(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        files.write_whole(tmp_path / "vol0.b", "b")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", another_meanwhile)
    files.write_whole(tmp_path / "vol0.a", "a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"vol0.a": "a", "vol0.b": "b"}


def test_others_may_read_it_unless_they_may_not(tmp_path: Path) -> None:
    files.write_whole(tmp_path / "open", "")
    files.write_whole(tmp_path / "secret", "", files.ROOT_ONLY)
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_directory_without_fsync_is_no_failure(tmp_path: Path) -> None:
    files.keep_names(tmp_path)
    files.keep_names(Path("/proc/self"))
    files.keep_names(tmp_path / "none")


def test_one_has_the_lock(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as one, (tmp_path / "x").open() as two:
        files.lock(one.fileno(), fcntl.LOCK_EX, 0)
        with pytest.raises(BlockingIOError):
            files.lock(two.fileno(), fcntl.LOCK_SH, 60, ManualClock())
        one.close()
        files.lock(two.fileno(), fcntl.LOCK_SH, 0)
