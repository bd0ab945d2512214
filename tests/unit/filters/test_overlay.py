"""`tcmu-runner overlay`, on the overlay of a disk that is not served."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clock import ManualClock

from tcmu_runner.cli.arguments import parser
from tcmu_runner.cli.main import main
from tcmu_runner.cli.overlay import run
from tcmu_runner.errors import DeviceError
from tcmu_runner.filters.overlay import HEAD, MAGIC, VERSION, Overlay

SIZE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vol0.cow"
    overlay = Overlay.open(path, SIZE, 512)
    overlay.write([memoryview(bytearray(b"x" * 4096))], 8192)
    overlay.flush()
    overlay.close()
    return path


def test_show_commit_discard(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overlay", str(path)]) == 0
    assert capsys.readouterr().out.startswith("4 KiB of 1 MiB differ; they take ")
    assert main(["overlay", str(path), "commit"]) == 0
    assert "4 KiB will be written to the storage below" in capsys.readouterr().out
    assert main(["overlay", str(path), "show"]) == 0
    assert "differ, to be committed" in capsys.readouterr().out
    assert main(["overlay", str(path), "discard"]) == 0
    assert "4 KiB are discarded" in capsys.readouterr().out
    assert main(["overlay", str(path)]) == 0
    assert capsys.readouterr().out.startswith("0 bytes of 1 MiB differ; they take ")


def test_one_that_is_in_use(path: Path) -> None:
    overlay = Overlay.find(path)
    with pytest.raises(DeviceError, match="is in use by another process"):
        run(parser().parse_args(["overlay", str(path), "discard"]), ManualClock())
    overlay.close()


def test_what_is_no_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").write_text("text")
    assert main(["overlay", str(tmp_path / "other")]) == 1
    assert "is no overlay" in capsys.readouterr().err
    assert main(["overlay", str(tmp_path / "absent")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "block_size"), [(SIZE, 0), (1 << 62, 512), (1 << 63, 1 << 31)])
def test_a_head_that_no_overlay_has(
    path: Path, size: int, block_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bitmaps and the file's length follow from it."""
    with path.open("r+b") as file:
        file.write(HEAD.pack(MAGIC, VERSION, block_size, size, bytes(16), False))
    assert main(["overlay", str(path)]) == 1
    assert "has a damaged head: restore it from a backup" in capsys.readouterr().err
