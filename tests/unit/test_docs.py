"""What the documentation says is what the code does."""

from pathlib import Path

from tcmu_runner.scsi.reference import commands

DOCS = Path(__file__).parents[2] / "docs"
UPDATE = "python -c 'from tcmu_runner.scsi.reference import commands; print(commands(), end=\"\")'"


def test_the_table_of_commands_is_the_opcode_table() -> None:
    page = (DOCS / "reference/scsi-commands.md").read_text()
    assert page.partition("| Opcode")[1:] == commands().partition("| Opcode")[1:], f"update it: {UPDATE}"
