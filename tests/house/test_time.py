"""Tests of the unit tier do not sleep: what they wait for is a condition, or time that jumps."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TypeGuard

import pytest

UNIT = Path(__file__).parents[1] / "unit"
HELPERS = UNIT / "support"  # until, eventually, give_way: the only ones that wait by the machine's clock


def sleeps(text: str) -> list[str]:
    """The calls that take as long as they say. asyncio.sleep(0) only lets others run."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}" for node in ast.walk(ast.parse(text)) if is_sleep(node)
    ]


def is_sleep(node: ast.AST) -> TypeGuard[ast.stmt | ast.expr]:
    if isinstance(node, ast.Import):  # under another name its calls could not be seen
        return any(each.asname and each.name in ("time", "asyncio") for each in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in ("time", "asyncio") and any(each.name == "sleep" for each in node.names)
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if name.endswith("Event().wait"):  # no other code has this event, so it ends at its limit
        return bool(node.args or node.keywords)
    return name == "time.sleep" or (name == "asyncio.sleep" and ast.unparse(node.args[0]) != "0")


def test_no_test_sleeps() -> None:
    files = [path for path in UNIT.rglob("*.py") if not path.is_relative_to(HELPERS)]
    found = {str(path.relative_to(UNIT)): sleeps(path.read_text()) for path in files}
    sleeping = {name: calls for name, calls in found.items() if calls}
    assert not sleeping, f"wait with support.waiting, or give the code a support.clock: {sleeping}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time.sleep(0.001)", True),
        ("await asyncio.sleep(LONG)", True),
        ("from time import monotonic, sleep", True),
        ("await asyncio.sleep(0)", False),
        ("clock.sleep(10)", False),
        ("from time import monotonic", False),
        ("import asyncio as aio", True),
        ("import time", False),
        ("threading.Event().wait(0.2)", True),
        ("ended.wait(60)", False),
        ("await asyncio.Event().wait()", False),  # until it is cancelled
    ],
)
def test_what_is_a_sleep(text: str, found: bool) -> None:
    assert bool(sleeps(text)) == found, "mend is_sleep, or this list"
