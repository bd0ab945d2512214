"""`tcmu-runner faults`: shows or replaces the rules of a LUN's filter `error` while the LUN is in use."""

from __future__ import annotations

import argparse
import tomllib
from typing import Any

from tcmu_runner.cli.daemon_client import ask
from tcmu_runner.cli.output import print_json, show, table
from tcmu_runner.cli.show import find
from tcmu_runner.dbus.client import Client
from tcmu_runner.errors import ConfigError

LAYER = "error"


def run(options: argparse.Namespace) -> int:
    """Raises TcmuError: the rules have not changed."""
    wanted: dict[str, object] = {}
    if options.rules or options.clear:
        wanted["rules"] = [_rule(text) for text in options.rules]

    async def question(daemon: Client) -> tuple[str, dict[str, Any]]:
        name = (await find(daemon, options.name)).name
        return name, await daemon.control(name, LAYER, wanted)

    name, told = ask(question)
    if options.json:
        print_json({"name": name, **told})
    elif not told["rules"]:
        print(f"{name}: nothing is made to fail")
    else:
        rules = (", ".join(f"{key} = {value}" for key, value in rule.items()) for rule in told["rules"])
        rows = list(zip(rules, told["met"], told["applied"], strict=True))
        show(table(["RULE", "MET", "APPLIED"], rows, right=["MET", "APPLIED"]))
    return 0


def _rule(text: str) -> dict[str, object]:
    """A rule written as in the settings, without the braces."""
    try:
        rule: dict[str, object] = tomllib.loads(f"rule = {{ {text} }}")["rule"]
    except tomllib.TOMLDecodeError as error:
        example = 'on = "read", sense = "3/11/00"'
        raise ConfigError(f"--rule {text}: {error}; write it as: {example}") from None
    return rule
