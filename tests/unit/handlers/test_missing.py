"""A storage that is missing: an administrator's new LUN gets an empty one, a LUN that had it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcmu_runner import Device
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Registry

SIZE = 1 << 20
BACK = {"mode": "write-back"}


def opened(config: str, origin: Origin, filter_: str = "", **options: object) -> Lun:
    registry = Registry()
    registry.load_entry_points()
    if filter_:
        subtype, _, rest = config.partition("/")
        registry.put(registry.definition("stack", subtype, (Layer.parse(filter_, options),)))
        config = f"stack/{rest}"
    return Lun.open(Description("user_0/t0", config, SIZE, origin=origin), registry)


@pytest.mark.parametrize("origin", [Origin.RESTORED, Origin.RUNNING])
@pytest.mark.parametrize(("handler", "remedy"), [("file", "truncate -s 1048576 "), ("zstd", "touch ")])
def test_a_lun_that_had_it_is_refused(tmp_path: Path, handler: str, remedy: str, origin: Origin) -> None:
    path = tmp_path / "disk"
    with pytest.raises(FileNotFoundError) as refusal:
        opened(f"{handler}/{path}", origin)
    assert str(refusal.value.strerror) == (
        f"{path} is missing, and user_0/t0 is no new LUN: mount its file system, or restore it; "
        f"to begin with an empty one: {remedy}{path}"
    )
    assert not list(tmp_path.iterdir())
    path.touch()  # the way out
    opened(f"{handler}/{path}", origin).close()


@pytest.mark.parametrize("handler", ["file", "zstd"])
def test_a_new_lun_gets_one(tmp_path: Path, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    opened(f"{handler}/{tmp_path}/new", Origin.NEW).close()
    opened(f"{handler}/{tmp_path}/again", Origin.AGAIN).close()
    assert f"{tmp_path}/again, with which it was served before, is missing: made anew, empty" in caplog.text
    assert f"{tmp_path}/new," not in caplog.text
    caplog.clear()


@pytest.mark.parametrize("origin", [Origin.RESTORED, Origin.RUNNING])
def test_an_overlay_has_what_was_written(tmp_path: Path, origin: Origin) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(FileNotFoundError, match=r"overlay .*t0\.cow is missing, .* touch .*t0\.cow"):
        opened(f"file/{tmp_path}/disk", origin, "cow", directory=str(tmp_path))
    (tmp_path / "t0.cow").touch()
    opened(f"file/{tmp_path}/disk", origin, "cow", directory=str(tmp_path)).close()


def test_a_cache_may_have_what_was_written_only_while_the_machine_runs(tmp_path: Path) -> None:
    """It is emptied when a LUN is removed, and after a power loss nothing in it counts: it may be in RAM."""
    (tmp_path / "disk").touch()
    with pytest.raises(FileNotFoundError, match=r"cache .*t0\.cache is missing"):
        opened(f"file/{tmp_path}/disk", Origin.RUNNING, "cache", directory=str(tmp_path), mode="write-back")
    opened(f"file/{tmp_path}/disk", Origin.RUNNING, "cache", directory=str(tmp_path)).close()
    (tmp_path / "t0.cache").unlink()
    opened(
        f"file/{tmp_path}/disk", Origin.RESTORED, "cache", directory=str(tmp_path), mode="write-back"
    ).close()


def test_missing_checksums_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The disk can be served without them, but no damage is found."""
    opened(f"file/{tmp_path}/disk", Origin.NEW, "verify", directory=str(tmp_path)).close()
    assert "missing" not in caplog.text
    (tmp_path / "t0.sums").unlink()
    opened(f"file/{tmp_path}/disk", Origin.RUNNING, "verify", directory=str(tmp_path)).close()
    assert "t0.sums is missing: made a new one: all blocks count as right" in caplog.text
    caplog.clear()


def test_a_handler_of_anybodys_may_ask_the_same() -> None:
    Device("x", SIZE).missing("bucket x", "make it")
    with pytest.raises(FileNotFoundError, match="bucket x is missing"):
        Device("x", SIZE, origin=Origin.RUNNING).missing("bucket x", "make it")
