"""`check`: of a config string, without touching what it names; and of a handler."""

import json
import os
from pathlib import Path

from .conftest import Command


def test_a_config_string_is_only_read(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "disk.img"
    status, text, _ = command("check", f"file/{path}")
    assert (status, "understands it" in text, path.exists()) == (0, True, False)
    assert json.loads(command("check", f"file/{path}", "--json")[1]) == {"config": f"file/{path}", "ok": True}


def test_what_is_wrong_with_it_is_told(command: Command) -> None:
    status, _, told = command("check", "file/disk.img")
    assert (status, "path 'disk.img' is not absolute: write file//srv" in told) == (1, True)
    assert "no handler 'fil'; available: " in command("check", "fil//srv/a")[2]
    assert "contains ','" in command("check", "file//srv/a,b")[2]


def test_a_settings_file_is_read(tmp_path: Path, command: Command) -> None:
    (file := tmp_path / "new.toml").write_text("[workers]\nprocesses = 4\n")
    assert command("check", str(file)) == (0, f"{file}: no mistakes\n", "")
    file.write_text("[workers]\nprocesses = -1\n")
    status, _, told = command("check", str(file))
    assert (status, f"{file}: line 2: workers.processes = -1: write" in told) == (1, True)


def test_a_handler_is_put_through_the_kit(tmp_path: Path, command: Command) -> None:
    status, text, _ = command("check", "file", str(tmp_path / "scratch.img"), "--persistent", "--json")
    assert (status, json.loads(text)["ok"]) == (0, True)


def test_what_a_storage_holds_is_not_overwritten_unasked(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"data".ljust(1 << 20, b"\0"))
    status, _, told = command("check", "file", str(path))
    assert status == 1
    assert f"file/{path} holds something, which the check would overwrite: " in told
    assert path.read_bytes() == b"data".ljust(1 << 20, b"\0")
    assert command("check", "file", str(path), "--overwrite")[0] == 0


def test_an_empty_file_holds_nothing(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 1 << 20)
    assert command("check", "file", str(path))[0] == 0


def test_a_database_that_exists_holds_something(tmp_path: Path, command: Command) -> None:
    (tmp_path / "disk.zdb").write_bytes(b"SQLite format 3\0")
    status, _, told = command("check", "zstd", str(tmp_path / "disk.zdb"))
    assert (status, "holds something" in told) == (1, True)
