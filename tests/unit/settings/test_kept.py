"""The settings of the last good start."""

from pathlib import Path

import pytest

from tcmu_runner.settings import kept


def test_what_is_kept_is_there_again_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "state/last.toml"
    assert kept.read(path) == ""
    kept.keep("[workers]\n", path)
    kept.keep("[metrics]\n", path)
    assert kept.read(path) == "[metrics]\n"
    assert (path.stat().st_mode & 0o777, list(path.parent.iterdir())) == (0o600, [path])


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "last.toml").write_bytes(b"\xff")
    assert kept.read(path) == ""
    assert kept.read(tmp_path) == ""


def test_the_lock_is_found_also_with_broken_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, path = tmp_path / "tcmu-runner.toml", tmp_path / "last.toml"
    monkeypatch.setattr("tcmu_runner.settings.tcmu_runner_toml.DEFAULT", file)
    file.write_text('[coexistence]\nlock = "/run/now"\n')
    assert str(kept.coexistence(path).lock) == "/run/now"
    file.write_text("[coexistence\n")
    assert str(kept.coexistence(path).lock) == "/run/tcmu.lock"
    kept.keep('[coexistence]\nlock = "/run/before"\n', path)
    assert str(kept.coexistence(path).lock) == "/run/before"
