"""What the documentation says is what the code does."""

from pathlib import Path

import pytest

from tcmu_runner.handler import reference
from tcmu_runner.scsi.reference import commands

DOCS = Path(__file__).parents[2] / "docs"
UPDATE = "python -c 'from tcmu_runner.scsi.reference import commands; print(commands(), end=\"\")'"


def test_the_table_of_commands_is_the_opcode_table() -> None:
    page = (DOCS / "reference/scsi-commands.md").read_text()
    assert page.partition("| Opcode")[1:] == commands().partition("| Opcode")[1:], f"update it: {UPDATE}"


@pytest.mark.parametrize("kind", ["handlers", "filters"])
def test_the_pages_of_handlers_and_filters_are_their_docstrings(kind: str) -> None:
    page = (DOCS / f"reference/{kind}.md").read_text()
    update = f"python -c 'from tcmu_runner.handler import reference; print(reference.{kind}(), end=\"\")'"
    found, expected = page.partition("\n## ")[2], getattr(reference, kind)().partition("## ")[2]
    assert found == expected, f"update it: {update}"
