"""No handler or filter of ours is without a test that runs the conformance kit on it."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
KIT = re.compile(r"\bcheck_(?:handler|class|stack)\(")
EXEMPT: dict[str, str] = {}  # name of the entry point: why no test can run the kit on it

ENTRIES = [*entry_points(group="tcmu_runner.handlers"), *entry_points(group="tcmu_runner.filters")]


def files_with_the_kit() -> list[str]:
    """The text of each test file that runs it."""
    texts = [path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__)]
    return [text for text in texts if KIT.search(text)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_kit_is_run_on_it(entry: EntryPoint) -> None:
    name = entry.name
    named = re.compile(rf"\b{entry.attr}\b|[\"'(]{name}[\"'/]")
    assert name in EXEMPT or any(named.search(text) for text in files_with_the_kit()), (
        f"{name}: run check_handler or check_stack on it in a test, or exempt it here with the reason"
    )


def test_exemptions_are_of_those_that_exist_and_say_why() -> None:
    assert set(EXEMPT) <= {entry.name for entry in ENTRIES}
    assert all(EXEMPT.values())
