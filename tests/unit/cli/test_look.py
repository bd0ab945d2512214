"""`list`, `show` and `handlers`: for people, and as JSON for programs."""

import json
from dataclasses import replace

import pytest
from dbus.shelf import Shelf, a_device

from tcmu_runner.cli import look
from tcmu_runner.cli.exports import Export
from tcmu_runner.engine.view import Happening, State

from .conftest import Command, put


@pytest.fixture(autouse=True)
def lio(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"user_0/vol0": [Export("loopback", "naa.5001405000000001", 0, "/dev/sda")]}
    monkeypatch.setattr(look, "exports", lambda: found)


def test_no_luns(daemon: Shelf, command: Command) -> None:
    assert command("list") == (0, "no LUNs; tcmu-runner create makes one\n", "")
    assert command("list", "--json") == (0, "[]\n", "")


def test_a_line_for_each_lun(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    put(daemon, replace(a_device("user_1/other", State.FAILED), config="file//srv/a.img"))
    _, text, _ = command("list")
    assert [line.split() for line in text.splitlines()] == [
        ["NAME", "STATE", "SIZE", "CONFIG", "EXPORTED", "AS"],
        ["user_0/vol0", "serving", "1", "TiB", "ram/", "/dev/sda"],
        ["user_1/other", "failed", "1", "TiB", "file//srv/a.img", "-"],
    ]


def test_a_long_config_string_stays_whole_for_programs(daemon: Shelf, command: Command) -> None:
    put(daemon, replace(a_device(), config="file//" + "x" * 240))
    assert "file//" + "x" * 240 in command("list")[1]


def test_json_has_everything(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    (lun,) = json.loads(command("list", "--json")[1])
    assert lun == {
        "name": "user_0/vol0", "minor": 4, "handler": "ram", "config": "ram/", "size": 1 << 40,
        "block_size": 512, "state": "serving", "since": 1764000000.25, "last_error": "", "restarts": 1,
        "pid": 4711,
        "exports": [{"fabric": "loopback", "target": "naa.5001405000000001", "lun": 0, "disk": "/dev/sda"}],
    }  # fmt: skip


def test_all_about_one(daemon: Shelf, command: Command) -> None:
    put(daemon, replace(a_device(), last_error="the storage is away: plug it in"))
    daemon.told.append(Happening(1764000000.5, "user_0/vol0", 40, "refused: no such file"))
    daemon.told.append(Happening(1764000000.5, "user_0/other", 40, "somebody else"))
    status, text, _ = command("show", "vol0")
    assert status == 0
    for told in (
        "1 TiB in blocks of 512 bytes", "/dev/sda", "process 4711", "the storage is away: plug it in",
        "3 commands, the oldest for 1.5 s", "status 02 sense 3/11/00: 2 commands", "refused: no such file",
    ):  # fmt: skip
        assert told in text
    assert "somebody else" not in text
    shown = json.loads(command("show", "user_0/vol0", "--json")[1])
    assert shown["statistics"]["errors"] == [{"status": 2, "key": 3, "asc": 17, "ascq": 0, "count": 2}]
    assert shown["statistics"]["opcodes"][0]["count"] == 8
    assert [each["text"] for each in shown["happenings"]] == ["refused: no such file"]


def test_a_name_that_is_none_or_several(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    put(daemon, a_device("user_1/vol0"))
    assert command("show", "vol1") == (
        1, "", "tcmu-runner: no LUN vol1; there are: user_0/vol0, user_1/vol0\n",
    )  # fmt: skip
    told = "tcmu-runner: several LUNs are named vol0: say which of user_0/vol0, user_1/vol0\n"
    assert command("show", "vol0") == (1, "", told)


def test_handlers(daemon: Shelf, command: Command) -> None:
    _, text, _ = command("handlers")
    assert "file     file//ABSOLUTE/PATH[;OPTION...]  A disk in a file, or on a block device" in text
    assert command("handlers", "file")[1].startswith("file//ABSOLUTE/PATH[;direct][;read_only]\n\nA disk in")
    assert [each["name"] for each in json.loads(command("handlers", "--json")[1])] == ["file", "ram"]
    assert command("handlers", "no")[2] == "tcmu-runner: no handler no; there are: file, ram\n"


def test_without_a_daemon_the_remedy_is_told(bus: None, command: Command) -> None:
    told = "tcmu-runner: no tcmu-runner is running: systemctl start tcmu-runner\n"
    assert command("list") == (1, "", told)
