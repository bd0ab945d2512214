"""Where LIO's tools save what `create` makes. What it makes: tests/vm/test_commands.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tcmu_runner.cli import lio as module
from tcmu_runner.cli.lio import Lio, save_directory
from tcmu_runner.errors import TcmuError


class RTSLibError(Exception):
    pass


class Root:
    """Of rtslib: it saves to a file of this directory."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise RTSLibError("Cannot set dbroot")
        self._file = directory / "saveconfig.json"

    def save_to_file(self) -> None:
        try:
            self._file.write_text("{}")
        except OSError as error:
            raise RuntimeError(f"Could not open {self._file}") from error


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the save file, which is missing."""
    there = tmp_path / "etc/target"
    saved = SimpleNamespace(default_save_file=f"{there}/saveconfig.json")
    lib: Any = SimpleNamespace(RTSRoot=lambda: Root(there), RTSLibError=RTSLibError)
    monkeypatch.setattr(module, "need", lambda name: {"rtslib_fb": lib, "rtslib_fb.root": saved}[name])
    monkeypatch.setattr(module, "load_target_core_user", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return there


def test_the_directory_is_made(directory: Path) -> None:
    """Debian's python3-rtslib-fb does not bring it: only targetcli-fb does."""
    assert save_directory() == directory
    Lio().save()
    assert (directory / "saveconfig.json").exists()
    assert (directory / "pr").is_dir()  # of the kernel's persistent reservations
    assert directory.stat().st_mode & 0o777 == 0o700


def test_where_it_cannot_be_made_it_is_named(directory: Path) -> None:
    directory.parent.write_text("no directory")
    with pytest.raises(TcmuError, match=f"LIO's directory {directory} cannot be made: Not a directory"):
        Lio()


def test_what_cannot_be_saved_is_told(directory: Path) -> None:
    """rtslib raises no error of its own there."""
    lio = Lio()
    (directory / "saveconfig.json").mkdir()
    with pytest.raises(TcmuError, match=r"cannot be saved: .*Is a directory.*; or add --no-save"):
        lio.save()
