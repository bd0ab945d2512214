import errno
import os
from pathlib import Path

import pytest

from tcmu_runner.errors import TcmuError
from tcmu_runner.kernel import attribute
from tcmu_runner.kernel.attribute import KernelFileError


def test_read_without_the_newlines_and_with_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"file//\xff\nb\n\n")
    assert attribute.read(tmp_path / "name").encode("utf-8", "surrogateescape") == b"file//\xff\nb"


def test_write_stores_the_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "block_dev").write_text("unblocked\n")
    attribute.write(tmp_path / "block_dev", "1")
    assert (tmp_path / "block_dev").read_bytes() == b"1"


def test_write_is_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").write_text("")
    stores: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _fd, data: stores.append(data))
    attribute.write(tmp_path / "control", "x" * 4095)
    assert stores == [b"x" * 4095]


def test_refused_write_has_its_errno_and_is_not_repeated() -> None:
    with pytest.raises(OSError, match="No space") as caught:
        attribute.write(Path("/dev/full"), "1")
    assert caught.value.errno == errno.ENOSPC


def test_more_than_one_store_can_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("as before")
    with pytest.raises(OSError, match="more than 4095 bytes") as caught:
        attribute.write(tmp_path / "control", "x" * 4096)
    assert caught.value.errno == errno.E2BIG
    assert (tmp_path / "control").read_text() == "as before"


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        attribute.write(tmp_path / "reset_ring", "1")
    assert list(tmp_path.iterdir()) == []


def test_error_is_both_the_users_and_the_systems() -> None:
    error = KernelFileError(errno.EBUSY, "vol0: busy; wait", Path("/x/y"))
    assert isinstance(error, TcmuError)
    assert isinstance(error, OSError)
    assert error.errno == errno.EBUSY
    assert str(error) == "vol0: busy; wait (/x/y)"
