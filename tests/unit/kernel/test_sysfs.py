import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tcmu_runner.errors import TcmuError
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.sysfs import KernelFileError


def test_read_without_the_newlines_and_with_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"file//\xff\nb\n\n")
    assert sysfs.read(tmp_path / "name").encode("utf-8", "surrogateescape") == b"file//\xff\nb"


def test_write_stores_the_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "block_dev").write_text("unblocked\n")
    sysfs.write(tmp_path / "block_dev", "1")
    assert (tmp_path / "block_dev").read_bytes() == b"1"


def test_write_is_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").write_text("")
    stores: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _fd, data: stores.append(data))
    sysfs.write(tmp_path / "control", "x" * 4095)
    assert stores == [b"x" * 4095]


def test_refused_write_has_its_errno_and_is_not_repeated() -> None:
    with pytest.raises(OSError, match="No space") as caught:
        sysfs.write(Path("/dev/full"), "1")
    assert caught.value.errno == errno.ENOSPC


def test_more_than_one_store_can_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("as before")
    with pytest.raises(OSError, match="more than 4095 bytes") as caught:
        sysfs.write(tmp_path / "control", "x" * 4096)
    assert caught.value.errno == errno.E2BIG
    assert (tmp_path / "control").read_text() == "as before"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sysfs.write(tmp_path / "reset_ring", "1")
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_while_it_is_looked_for_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backstore that targetcli removed ended the look for LUNs of one identifier with a traceback."""
    for name in ("user_0/gone", "user_1/stays"):
        (tmp_path / name).mkdir(parents=True)
    scandir = os.scandir

    def remove_then_scan(path: str | Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        if str(path).endswith("user_0"):
            shutil.rmtree(tmp_path / "user_0")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_then_scan)
    assert sysfs.find(tmp_path, "user_*/*") == [tmp_path / "user_1/stays"]


def test_error_is_both_the_users_and_the_systems() -> None:
    error = KernelFileError(errno.EBUSY, "vol0: busy; wait", Path("/x/y"))
    assert isinstance(error, TcmuError)
    assert isinstance(error, OSError)
    assert error.errno == errno.EBUSY
    assert str(error) == "vol0: busy; wait (/x/y)"
