"""Whether a LUN that the kernel adds was served before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcmu_runner.handler.device import Origin
from tcmu_runner.kernel.uio import DeviceName
from tcmu_runner.supervisor.origins import ServedBefore

LUN = DeviceName(0, "vol0", "file//srv/a.img")


def boots(directory: Path, number: int) -> ServedBefore:
    return ServedBefore(directory / "served", f"boot {number}")


def test_in_the_same_run_of_the_machine_somebody_has_removed_it(tmp_path: Path) -> None:
    assert boots(tmp_path, 1).origin(LUN) is Origin.NEW
    boots(tmp_path, 1).note(LUN)
    assert boots(tmp_path, 1).origin(LUN) is Origin.AGAIN


def test_in_a_later_one_it_is_restored(tmp_path: Path) -> None:
    boots(tmp_path, 1).note(LUN)
    assert boots(tmp_path, 2).origin(LUN) is Origin.RESTORED
    assert boots(tmp_path, 2).origin(DeviceName(3, "vol0", "file//srv/a.img;direct")) is Origin.RESTORED
    boots(tmp_path, 2).note(LUN)
    assert boots(tmp_path, 2).origin(LUN) is Origin.AGAIN


@pytest.mark.parametrize(
    "other", [DeviceName(0, "vol1", LUN.config), DeviceName(0, "vol0", "file//srv/b.img")]
)
def test_with_another_name_or_storage_it_is_another_lun(tmp_path: Path, other: DeviceName) -> None:
    boots(tmp_path, 1).note(LUN)
    assert boots(tmp_path, 2).origin(other) is Origin.NEW


@pytest.mark.parametrize("name", ["x" * 200, "a/b", "gr\udcf6\udfdf", "%"])
def test_any_name_has_a_note(tmp_path: Path, name: str) -> None:
    lun = DeviceName(0, name.replace("\udfdf", ""), f"file//srv/{name}.img".replace("\udfdf", "\udcdf"))
    boots(tmp_path, 1).note(lun)
    assert boots(tmp_path, 2).origin(lun) is Origin.RESTORED


def test_a_damaged_note_or_none_at_all_is_a_new_lun(tmp_path: Path) -> None:
    boots(tmp_path, 1).note(DeviceName(0, "vol0", "no config string"))
    assert not (tmp_path / "served").exists()
    ServedBefore(None).note(LUN)
    assert ServedBefore(None).origin(LUN) is Origin.NEW
    boots(tmp_path, 1).note(LUN)
    (note,) = (tmp_path / "served").iterdir()
    note.write_bytes(b"\xff\xfe")
    assert boots(tmp_path, 2).origin(LUN) is Origin.NEW


def test_where_it_cannot_be_noted_the_log_says_what_that_means(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "served").touch()
    boots(tmp_path, 1).note(LUN)
    assert "cannot note in" in caplog.text
    assert "makes it anew" in caplog.text
    caplog.clear()
