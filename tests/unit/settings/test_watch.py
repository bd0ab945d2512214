"""That a file has changed is noticed, whatever an editor does to it."""

import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcmu_runner.settings.watch import FileWatch


def _write(file: Path) -> None:
    file.write_text("new")


def _rename(file: Path) -> None:
    other = file.with_name("other~")
    other.write_text("new")
    other.rename(file)


def _remove(file: Path) -> None:
    file.unlink()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (file := tmp_path / "etc/tcmu.conf").parent.mkdir()
    file.write_text("old")
    return file


@pytest.fixture
def watch(file: Path) -> Iterator[FileWatch]:
    watch = FileWatch([file])
    yield watch
    watch.close()


def happened(watch: FileWatch) -> bool:
    """inotify(7) queues an event before the call that caused it returns."""
    found = bool(select.select([watch], [], [], 0)[0])
    watch.clear()
    return found


@pytest.mark.parametrize("change", [_write, _rename, _remove])
def test_each_change_is_seen(watch: FileWatch, file: Path, change: Callable[[Path], None]) -> None:
    assert not happened(watch)
    change(file)
    assert happened(watch)
    assert not happened(watch)


def test_a_directory_may_come_and_go(watch: FileWatch, file: Path) -> None:
    file.unlink()
    file.parent.rmdir()
    assert happened(watch)
    file.parent.mkdir()
    assert happened(watch)
    file.write_text("back")
    assert happened(watch)


def test_reading_is_no_change(watch: FileWatch, file: Path) -> None:
    file.read_text()
    assert not happened(watch)
