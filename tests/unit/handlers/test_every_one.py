"""No handler or filter of ours is without the tests that all of them need."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
CASES = "".join(
    path.read_text() for path in (TESTS / "backends/cases").glob("*.py")
)  # all that is run on them
KIT = re.compile(r"\bcheck_(?:handler|class|filter)\(")
EXEMPT: dict[str, str] = {}  # name of the entry point: why no test can run the kit on it

HANDLERS = [*entry_points(group="tcmu_runner.handlers")]
ENTRIES = [*HANDLERS, *entry_points(group="tcmu_runner.filters")]


def is_a_case(handler: str) -> bool:
    """Whether a case's config string begins with it."""
    return bool(re.search(rf'"{handler}[/"]', CASES))


def files_with_the_kit() -> list[str]:
    """The text of each test file that runs it."""
    texts = [path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__)]
    return [text for text in texts if KIT.search(text)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_kit_is_run_on_it(entry: EntryPoint) -> None:
    name = entry.name
    if is_a_case(name):
        return
    named = re.compile(rf"\b{entry.attr}\b|[\"'(]{name}[\"'/]")
    assert name in EXEMPT or any(named.search(text) for text in files_with_the_kit()), (
        f"{name}: run check_handler or check_filter on it in a test, or exempt it here with the reason"
    )


@pytest.mark.parametrize("entry", HANDLERS, ids=lambda entry: entry.name)
def test_random_commands_are_run_on_it(entry: EntryPoint) -> None:
    """Beside a bytearray: on what needs no server here, on others as a case of the backends' tests."""
    here = (Path(__file__).parent / "test_scsi_model.py").read_text()
    assert f'"{entry.name}/' in here or is_a_case(entry.name)


def test_exemptions_are_of_those_that_exist_and_say_why() -> None:
    assert set(EXEMPT) <= {entry.name for entry in ENTRIES}
    assert all(EXEMPT.values())
