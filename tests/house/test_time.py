"""Time is an argument: the code takes a Clock. Tests of the unit tier do not sleep: what they wait for is a
condition, or time that jumps."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TypeGuard

import pytest

SOURCE = Path(__file__).parents[2] / "src/tcmu_runner"
UNIT = Path(__file__).parents[1] / "unit"
HELPERS = UNIT / "support"  # until, eventually, give_way: the only ones that wait by the machine's clock


# Where the machine's own time is right, and why. All else takes a Clock, or its event loop's time.
CLOCK = {"clock.py": "the machine's clock itself"}
RATES = {
    "cli/top.py": "rates between two looks, on an administrator's screen",
    "cli/try_.py": "the same, in a line of progress",
    "web/report.py": "the page computes rates between two reports",
}
TIMESTAMPS = {
    "cli/create.py": "events of the daemon since then",
    "cli/diagnosis.py": "the age of a device's last failure",
    "cli/show.py": "the age of a device's last failure",
    "cli/top.py": "the age of a device's last failure",
    "embedded/watch.py": "since when a LUN is served",
    "engine/observe/statistics.py": "when a command was slow or failed, for all processes",
    "supervisor/journal.py": "when an event happened",
    "web/collector.py": "the age of a device's last failure",
    "web/report.py": "when the report was made",
    "web/server.py": "the field Date",
}
ELAPSING = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"}
OF_DAY = {"time", "time_ns"}

# Constants of seconds that tests still change, by file. Only to become fewer.
CHANGING = {
    "conformance/test_conformance.py": "the kit's own time to settle",
    "dbus/test_bus.py": "the bus is retried, and a check ended, below several layers",
    "handlers/test_rbd.py": "the time between two tries",
}


def taken_from_machine(text: str) -> set[str]:
    """The names of the module time that are used, called or passed on."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time":
            found.add(node.attr)
    return found


def users(names: set[str]) -> set[str]:
    """The modules that take one of these from the machine."""
    files = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}
    return {name for name, text in files.items() if taken_from_machine(text) & names}


def test_code_waits_and_measures_by_a_clock() -> None:
    """A test could only wait for it, or change its constants. Give the code a tcmu_runner.clock.Clock."""
    assert users(ELAPSING) == CLOCK.keys() | RATES.keys()


def test_the_time_of_day_is_for_readers() -> None:
    assert users(OF_DAY) == TIMESTAMPS.keys()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time.monotonic()", {"monotonic"}),
        ("clock: Callable[[], float] = time.time", {"time"}),
        ("from time import sleep, strftime", {"sleep", "strftime"}),
        ("self._clock.monotonic()", set()),
        ("device_event.time", set()),
        ("asyncio.sleep(1)", set()),
    ],
)
def test_what_is_the_machines_time(text: str, found: set[str]) -> None:
    assert taken_from_machine(text) == found


def test_tests_change_no_constants_of_time() -> None:
    """A constant that a test changes should be an argument."""
    files = {path.relative_to(UNIT): path.read_text() for path in UNIT.rglob("*.py")}
    pattern = re.compile(r'setattr\(\s*[\w.]+,\s*"\w*(SECONDS|PAUSE|DELAY|SETTLING|TIMEOUT)"')
    assert {str(name) for name, text in files.items() if pattern.search(text)} == CHANGING.keys()


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
