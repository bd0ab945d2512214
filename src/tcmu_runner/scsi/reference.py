"""Generates the documentation's tables of commands and of the bits of their CDBs from the opcode table."""

from collections.abc import Iterable, Sequence

from tcmu_runner.scsi.cdb import IGNORED_BY_ALL, REFUSED_BY_ALL, Field
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Row

HEADER = ("Opcode", "Command", "CDB bytes", "Offered")
FIELD_HEADER = ("Field", "Where", "Commands", "Why")
BITS_HEADER = ("Opcode", "Command", "Evaluated", "Refused unless zero", "Ignored")
_BY_ALL = {*REFUSED_BY_ALL, *IGNORED_BY_ALL}


def commands(rows: Iterable[Row] = DISK) -> str:
    """Markdown, a line for each opcode or service action, sorted."""
    return _table(
        HEADER, [(_code(row), row.name, str(len(row.mask)), row.needs.__doc__ or "") for row in rows]
    )


def cdb_bits(rows: Iterable[Row] = DISK) -> str:
    """Markdown: the refused fields, the ignored ones, and each command with its three kinds of bits."""
    found = list(rows)
    refused = [(row, each) for row in found for each in row.refuses]
    ignored = [(row, each) for row in found for each in row.ignores]
    lines = [
        (_code(row), row.name, row.mask.hex(" "), _own(row, row.refuses), _own(row, row.ignores))
        for row in found
    ]
    return "\n".join(
        (
            "## Refused unless zero\n", _table(FIELD_HEADER, _fields(refused)),
            "## Ignored\n", _table(FIELD_HEADER, _fields(ignored)),
            "## Command by command\n", _table(BITS_HEADER, lines),
        )
    )  # fmt: skip


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in every)


def _code(row: Row) -> str:
    return f"{row.opcode:02X}h" if row.action is None else f"{row.opcode:02X}h/{row.action:02X}h"


def _fields(uses: Iterable[tuple[Row, Field]]) -> list[tuple[str, ...]]:
    """A line for each field, in the order of the first command that has it."""
    found: dict[Field, list[Row]] = {}
    for row, each in uses:
        found.setdefault(each, []).append(row)
    return [(each.name, _place(each, rows), _codes(each, rows), each.why) for each, rows in found.items()]


def _place(each: Field, rows: Sequence[Row]) -> str:
    place = each.place(len(rows[0].mask))
    return f"last {place.split(' ', 2)[0]} {place.split(' ', 2)[2]}" if each.byte < 0 else place


def _codes(each: Field, rows: Sequence[Row]) -> str:
    return "all" if each in _BY_ALL else ", ".join(map(_code, rows))


def _own(row: Row, fields: Iterable[Field]) -> str:
    return (
        ", ".join(f"{each.name} ({each.place(len(row.mask))})" for each in fields if each not in _BY_ALL)
        or "-"
    )
