"""What `cow`, `cache` and `verify` keep is for one storage, whatever the names: see Plugin.identity."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tcmu_runner import ConfigError, Device
from tcmu_runner.cli import overlay as command
from tcmu_runner.cli.arguments import parser
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.filters import sidecar
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.scsi.operations import Flush, Read, Write
from tcmu_runner.testing.stacked import definition

SIZE = 1 << 20
BLOCK = 4096
Layer = tuple[str, dict[str, str]]
LayerIn = Callable[[Path], Layer]
MINE, OTHER = b"A" * BLOCK, b"B" * BLOCK


def back(tmp_path: Path) -> Layer:
    return "cache", {"directory": str(tmp_path), "mode": "write-back"}


def cow(tmp_path: Path) -> Layer:
    return "cow", {"directory": str(tmp_path)}


def verify(tmp_path: Path) -> Layer:
    return "verify", {"directory": str(tmp_path)}


def opened(config: str, *layers: Layer) -> Stack:
    made, options = definition(config, *layers)
    return Stack.open(made, options, Device("user_0/t0", SIZE, config=f"vault/{config.partition('/')[2]}"))


def write(stack: Stack, data: bytes) -> None:
    stack.perform()(Write(0, [memoryview(bytearray(data))]))


def read(stack: Stack) -> bytes:
    into = bytearray(BLOCK)
    stack.perform()(Read(0, [memoryview(into)]))
    return bytes(into)


def killed(stack: Stack) -> None:
    """Its process ends without a word: descriptors are closed, nothing else happens."""
    for layer in stack.filters:
        layer.close()
    assert isinstance(stack.handler, FileHandler)
    os.close(stack.handler.fd)


def image(tmp_path: Path, name: str, content: bytes) -> str:
    path = tmp_path / name
    path.write_bytes(content.ljust(SIZE, b"\0"))
    return f"file/{path}"


@pytest.mark.parametrize("layer", [back, cow, verify])
def test_over_another_file_it_is_refused_and_that_file_stays_as_it_is(tmp_path: Path, layer: LayerIn) -> None:
    one, two = image(tmp_path, "a.img", b""), image(tmp_path, "b.img", OTHER)
    stack = opened(one, layer(tmp_path))
    write(stack, MINE)
    killed(stack)
    with pytest.raises(ConfigError, match=r"belongs to vault/.*a\.img \(inode .*overlay .* adopt") as refusal:
        opened(two, layer(tmp_path))
    assert "b.img" in str(refusal.value)
    assert (tmp_path / "b.img").read_bytes() == OTHER.ljust(SIZE, b"\0")
    again = opened(one, layer(tmp_path))
    assert read(again) == MINE
    again.close()


@pytest.mark.parametrize("layer", [back, cow, verify])
def test_a_file_that_is_made_anew_is_another_one(tmp_path: Path, layer: LayerIn) -> None:
    """It may get the inode of the old one: ext4 gives it out again at once."""
    config = image(tmp_path, "a.img", b"")
    stack = opened(config, layer(tmp_path))
    write(stack, MINE)
    killed(stack)
    (tmp_path / "a.img").unlink()
    image(tmp_path, "a.img", OTHER)
    with pytest.raises(ConfigError, match="belongs to"):
        opened(config, layer(tmp_path))


@pytest.mark.parametrize("layer", [back, cow, verify])
def test_a_file_that_is_renamed_is_the_same(tmp_path: Path, layer: LayerIn) -> None:
    stack = opened(image(tmp_path, "a.img", b""), layer(tmp_path))
    write(stack, MINE)
    killed(stack)
    (tmp_path / "a.img").rename(tmp_path / "c.img")
    again = opened(f"file/{tmp_path}/c.img", layer(tmp_path))
    assert read(again) == MINE
    again.close()


def test_a_commit_never_goes_into_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = opened(image(tmp_path, "a.img", b""), cow(tmp_path))
    write(stack, MINE)
    stack.perform()(Flush())
    killed(stack)
    path = tmp_path / "t0.cow"
    assert command.run(parser().parse_args(["overlay", str(path), "commit"])) == 0
    with pytest.raises(ConfigError, match="belongs to"):
        opened(image(tmp_path, "b.img", OTHER), cow(tmp_path))
    assert (tmp_path / "b.img").read_bytes() == OTHER.ljust(SIZE, b"\0")
    assert capsys.readouterr().out


@pytest.mark.parametrize("layer", [back, cow, verify])
def test_an_administrator_gives_it_to_a_copy(
    tmp_path: Path, layer: LayerIn, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stack = opened(image(tmp_path, "a.img", b""), layer(tmp_path))
    write(stack, MINE)
    killed(stack)
    kept = next(path for path in tmp_path.iterdir() if path.name.startswith("t0."))
    copy = image(tmp_path, "b.img", (tmp_path / "a.img").read_bytes())
    assert command.run(parser().parse_args(["overlay", str(kept), "adopt"])) == 0
    assert "it belonged to vault/" in capsys.readouterr().out
    again = opened(copy, layer(tmp_path))
    assert read(again) == MINE
    again.close()
    assert "does not say which storage it belongs to" in caplog.text
    caplog.clear()
    opened(copy, layer(tmp_path)).close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_only_a_file_of_ours_can_be_given_away(tmp_path: Path) -> None:
    image(tmp_path, "a.img", MINE)
    with pytest.raises(ConfigError, match="no file of the filters"):
        sidecar.forget(tmp_path / "a.img")
    assert (tmp_path / "a.img").read_bytes() == MINE.ljust(SIZE, b"\0")
    with pytest.raises(Exception, match="is no file"):
        sidecar.forget(tmp_path / "none.cow")
    assert not (tmp_path / "none.cow").exists()


def test_a_cache_with_nothing_to_store_goes_over_to_another_file(tmp_path: Path) -> None:
    stack = opened(image(tmp_path, "a.img", b""), back(tmp_path))
    write(stack, MINE)
    stack.close()  # which stores it
    again = opened(image(tmp_path, "b.img", OTHER), back(tmp_path))
    assert read(again) == OTHER
    again.close()


def test_an_overlay_that_was_emptied_is_free_for_another_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stack = opened(image(tmp_path, "a.img", b""), cow(tmp_path))
    write(stack, MINE)
    killed(stack)
    command.run(parser().parse_args(["overlay", f"{tmp_path}/t0.cow", "discard"]))
    again = opened(image(tmp_path, "b.img", OTHER), cow(tmp_path))
    assert read(again) == OTHER
    again.close()
    assert capsys.readouterr().out
    assert "taken for that of" in caplog.text
    caplog.clear()


def test_filters_that_change_the_bytes_make_another_storage_of_it(tmp_path: Path) -> None:
    config = image(tmp_path, "a.img", b"")
    (tmp_path / "own").mkdir()
    layers: list[Layer] = [("log", {}), ("offset", {"offset": "64K"}), cow(tmp_path / "own")]
    found = []
    for layer in layers:
        stack = opened(config, layer)
        found.append(stack.identity)
        stack.close()
    plain, moved, over = found
    assert plain != moved != over != plain
    assert plain in moved
    assert plain in over


def test_a_deep_stack_is_known_again(tmp_path: Path) -> None:
    """By a digest where the text is too long for the record."""
    offsets: list[Layer] = [("offset", {"offset": "4K"})] * 200
    config = image(tmp_path, "a.img", b"\0" * (SIZE + 200 * BLOCK))
    opened(config, cow(tmp_path), *offsets).close()
    opened(config, cow(tmp_path), *offsets).close()
    with pytest.raises(ConfigError, match="belongs to a storage"):
        opened(config, cow(tmp_path), *offsets[1:])


def test_a_handler_that_says_nothing_is_known_by_its_config_string(tmp_path: Path) -> None:
    stack = opened("ram/", ("log", {}))
    assert stack.identity == "ram/"
    stack.close()


@pytest.mark.parametrize("kind", ["cow", "cache", "sums"])
def test_a_damaged_record_counts_as_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    fd = sidecar.claim(path, "file")
    sidecar.assign(fd, Device("x", SIZE, storage="inode 5", config="file//a"))
    assert sidecar.belongs_to(fd) == sidecar.StorageRecord("inode 5", "file//a")
    sidecar.pwrite(fd, b"x", sidecar.RECORD_AT + 9)
    assert sidecar.belongs_to(fd) is None
    os.close(fd)
