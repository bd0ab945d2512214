"""`resize`, `drain` and `restart`: what reaches the daemon, and what its user is told."""

import json

import pytest
from dbus.shelf import BUSY, Shelf, a_device

from tcmu_runner.cli import control

from .conftest import Command, put


@pytest.fixture(autouse=True)
def saved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """LIO's configuration is saved."""
    found: list[str] = []

    class Lio:
        def save(self) -> None:
            found.append("saved")

    monkeypatch.setattr(control, "Lio", Lio)
    return found


def test_resize(daemon: Shelf, command: Command, saved: list[str]) -> None:
    put(daemon, a_device())
    status, text, _ = command("resize", "vol0", "2T")
    assert (status, text.splitlines()[0]) == (0, "user_0/vol0: 1 TiB -> 2 TiB")
    assert daemon.asked == [("resize", "user_0/vol0", 2 << 40)]
    assert saved == ["saved"]
    assert json.loads(command("resize", "vol0", "2T", "--json", "--no-save")[1])["size"] == 2 << 40
    assert saved == ["saved"]


def test_nothing_is_cut_off_by_mistake(daemon: Shelf, command: Command, saved: list[str]) -> None:
    put(daemon, a_device())
    told = "tcmu-runner: user_0/vol0 would lose its last 1023 GiB: add --shrink if that is meant\n"
    assert command("resize", "vol0", "1G") == (1, "", told)
    assert (daemon.asked, saved) == ([], [])
    assert command("resize", "vol0", "1G", "--shrink")[0] == 0


def test_drain_and_restart(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    assert "until: tcmu-runner restart user_0/vol0" in command("drain", "vol0", "--seconds", "2")[1]
    assert command("restart", "vol0")[1] == "user_0/vol0: served by a new process\n"
    assert daemon.asked == [("drain", "user_0/vol0", 2.0), ("restart", "user_0/vol0")]


def test_the_daemons_refusal_is_told(daemon: Shelf, command: Command, saved: list[str]) -> None:
    put(daemon, a_device())
    daemon.refusal = BUSY
    for words in (["restart", "vol0"], ["resize", "vol0", "2T"], ["drain", "vol0"]):
        assert command(*words) == (1, "", "tcmu-runner: user_0/vol0: the storage is away: plug it in\n")
    assert saved == []
