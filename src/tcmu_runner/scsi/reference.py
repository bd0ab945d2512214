"""The table of supported commands for the documentation, generated from the opcode table."""

from collections.abc import Iterable

from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Row

HEADER = ("Opcode", "Command", "CDB bytes", "Offered")


def commands(rows: Iterable[Row] = DISK) -> str:
    """Markdown, a line for each opcode or service action, in their order, with a newline at the end."""
    lines = [HEADER, tuple("---" for _ in HEADER), *map(_line, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(row: Row) -> tuple[str, ...]:
    code = f"{row.opcode:02X}h" if row.action is None else f"{row.opcode:02X}h/{row.action:02X}h"
    return code, row.name, str(len(row.mask)), row.needs.__doc__ or ""
