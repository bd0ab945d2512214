"""`list`, `show` and `handlers`: for people, and as JSON for programs."""

import json
import time
from dataclasses import replace

import pytest
from dbus.shelf import SNAPSHOT, Shelf, a_device

from tcmu_runner.cli import daemon_client, show
from tcmu_runner.cli.exports import Export
from tcmu_runner.engine.observe.view import DeviceEvent, State

from .conftest import Command, put


@pytest.fixture(autouse=True)
def lio(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"user_0/vol0": [Export("loopback", "naa.5001405000000001", 0, "/dev/sda")]}
    monkeypatch.setattr(show, "exports", lambda: found)


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
        "pid": 4711, "trouble": "", "oldest": 1.5, "failure": "", "failed_at": 0.0,
        "exports": [{"fabric": "loopback", "target": "naa.5001405000000001", "lun": 0, "disk": "/dev/sda"}],
    }  # fmt: skip


FAILED_NOW = replace(SNAPSHOT, failure="read failed: OSError: [Errno 5] no", failed_at=time.time() + 3600)


def test_a_storage_that_fails_is_seen(daemon: Shelf, command: Command) -> None:
    """Though its device is served."""
    put(daemon, replace(a_device(), statistics=FAILED_NOW))
    put(daemon, replace(a_device("user_1/old"), statistics=replace(FAILED_NOW, failed_at=1764000000.0)))
    put(daemon, replace(a_device("user_2/stuck"), statistics=replace(SNAPSHOT, oldest=11.0)))
    text = command("list")[1]
    assert [line.split()[1] for line in text.splitlines()[1:4]] == ["failing", "serving", "failing"]
    told = "its storage fails, 0 s ago: read failed: OSError: [Errno 5] no"
    assert text.splitlines()[4:] == [
        f"user_0/vol0: {told}",
        "user_2/stuck: its storage does not answer: a command waits for 11 s",
    ]
    assert [each["trouble"] for each in json.loads(command("list", "--json")[1])][:2] == [told, ""]
    text = command("show", "vol0")[1]
    assert told in text
    assert "last failure" in text


def test_handlers_that_cannot_be_loaded_are_told_of(daemon: Shelf, command: Command) -> None:
    daemon.broken.append("s3.py cannot be loaded: ModuleNotFoundError: boto3 (line 2)")
    assert daemon.broken[0] in command("handlers")[1]


def test_all_about_one(daemon: Shelf, command: Command) -> None:
    put(daemon, replace(a_device(), last_error="the storage is away: plug it in"))
    daemon.told.append(DeviceEvent(1764000000.5, "user_0/vol0", 40, "refused: no such file"))
    daemon.told.append(DeviceEvent(1764000000.5, "user_0/other", 40, "somebody else"))
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
    assert command("handlers", "file")[1].startswith(
        "file//ABSOLUTE/PATH[;direct][;read_only][;shared]\n\nA disk in"
    )
    assert [each["name"] for each in json.loads(command("handlers", "--json")[1])] == ["file", "ram"]
    assert command("handlers", "no")[2] == "tcmu-runner: no handler no; there are: file, ram\n"


ABSENT = (
    " (nobody is org.kernel.TCMUService1 on the system bus, and cannot reach /run/tcmu-runner/control.sock: "
    "No such file or directory); systemctl start tcmu-runner\n"
)


def test_without_a_daemon_the_remedy_is_told(bus: None, command: Command) -> None:
    assert command("list") == (1, "", f"tcmu-runner: tcmu-runner is stopped{ABSENT}")


def test_with_a_lock_but_without_a_name_it_is_starting(
    bus: None, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_client, "owner", lambda _lock: 4711)
    monkeypatch.setattr(daemon_client, "scan", lambda _paths: [1, 2, 3])
    told = "tcmu-runner is starting or stopping; 3 LUNs wait for it"
    assert command("list")[2] == f"tcmu-runner: {told}{ABSENT}"
    assert command("top", "--count", "2", "--interval", "0.01")[1] == f"{told}\n{told}\n"


def test_luns_that_nobody_serves_yet(
    daemon: Shelf, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "scan", lambda _paths: [1, 2, 3, 4, 5])
    assert command("list")[1].startswith("no LUN is served yet; 5 wait: tcmu-runner is starting")


@pytest.mark.parametrize("address", ["unix:path=/absent", None], ids=["no bus", "no daemon"])
def test_handlers_need_no_daemon(
    bus: None, command: Command, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is not None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    status, text, _ = command("handlers")
    assert status == 0
    assert "file//ABSOLUTE/PATH[;OPTION...]" in text and "A disk in a file" in text
    assert "these are what a daemon would have: " in text
    names = [each["name"] for each in json.loads(command("handlers", "--json")[1])]
    assert {"file", "ram", "nbd", "zstd"} <= set(names)
