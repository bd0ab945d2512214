"""`faults`: rules of the filter error, shown and changed over D-Bus."""

import json

import pytest
from dbus.shelf import Shelf, a_device

from .conftest import Command, put


def test_rules_reach_the_filter_and_are_shown(
    daemon: Shelf, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(daemon, a_device())
    rule = {"on": "read", "offset": "1M", "sense": "3/11/00"}

    async def control(name: str, layer: str, table: dict[str, object]) -> dict[str, object]:
        daemon.asked.append((name, layer, table))
        return {"rules": table.get("rules", [rule]), "met": [4] * bool(table), "applied": [2] * bool(table)}

    monkeypatch.setattr(daemon, "control", control)
    status, text, _ = command("faults", "vol0", "--rule", 'on = "read", offset = "1M", sense = "3/11/00"')
    assert (status, daemon.asked) == (0, [("user_0/vol0", "error", {"rules": [rule]})])
    line = " ".join(text.splitlines()[1].split())
    assert line == "on = read, offset = 1M, sense = 3/11/00 4 2"
    assert command("faults", "vol0", "--clear")[0] == 0
    assert daemon.asked[-1] == ("user_0/vol0", "error", {"rules": []})
    assert json.loads(command("faults", "vol0", "--json")[1])["rules"] == [rule]


def test_a_rule_that_is_no_table_is_told(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    status, _, told = command("faults", "vol0", "--rule", "read")
    assert (status, 'write it as: on = "read", sense = "3/11/00"' in told) == (1, True)
    assert daemon.asked == []
