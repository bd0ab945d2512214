"""The shape of the opcode table: one row per opcode or service action, and the look-up.

Decoding, write protection, REPORT SUPPORTED OPERATION CODES, tracing and the documentation all read the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, cast

from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, INVALID_OPCODE, ScsiError

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Command
    from tcmu_runner.scsi.operations import Plan
    from tcmu_runner.scsi.unit import Unit

VARIABLE_LENGTH = 0x7F
SHORTEST = 6  # bytes of any CDB (SPC-5 4.2.2)
Blocks = Callable[[bytes], tuple[int, int]]
Run = Callable[["Unit", "Command"], "Plan"]


def _blocks_6(cdb: bytes) -> tuple[int, int]:
    """21 bits of LBA; a length of 0 means 256 blocks (SBC-3 5.9)."""
    return int.from_bytes(cdb[1:4], "big") & 0x1FFFFF, cdb[4] or 256


def _unpacked(layout: str) -> Blocks:
    """Called for every READ and WRITE: the bare method, without a function around it."""
    return cast("Blocks", Struct(layout).unpack)


BLOCKS_6 = _blocks_6
BLOCKS_10 = _unpacked(">2xIxHx")
BLOCKS_12 = _unpacked(">2xII2x")
BLOCKS_16 = _unpacked(">2xQI2x")
COMPARE_AND_WRITE_BLOCKS = _unpacked(">2xQ3xB2x")  # SBC-4 table 40
ATOMIC_BLOCKS = _unpacked(">2xQ2xH2x")  # SBC-4 table 150


def always(_unit: Unit) -> bool:
    """always"""
    return True


@dataclass(frozen=True, slots=True)
class Row:
    """One command a unit may offer.

    usage: the CDB usage data of SPC-5 6.35.3, in hex: the opcode (and service action), then a mask of the
        bits that are looked at; any other bit set is INVALID FIELD IN CDB.
    blocks: reads (LBA, number of blocks) out of the CDB, for commands that address blocks.
    needs: whether a unit offers the command at all; its docstring says so in words.
    medium: refused while the medium is stopped, ejected or being formatted. writes: refused on a
        write-protected unit.
    exclusive: must not overlap in time with any other command on its blocks; the engine sees to it.
    outlives: what it began goes on when the command is aborted.
    attention: reports a pending unit attention instead of running (all but INQUIRY and the like).
    access: what it does to a unit that another nexus has reserved; by default as `writes` and `blocks` say.
    """

    opcode: int
    name: str
    usage: str
    run: Run
    action: int | None = None
    blocks: Blocks | None = None
    needs: Callable[[Unit], bool] = always
    medium: bool = False
    writes: bool = False
    exclusive: bool = False
    outlives: bool = False
    attention: bool = True
    access: Access = Access.HARMLESS
    mask: bytes = field(init=False)
    unused: int = field(init=False)

    def __post_init__(self) -> None:
        if self.access == Access.HARMLESS and (self.writes or self.blocks):
            object.__setattr__(self, "access", Access.WRITES if self.writes else Access.READS)
        mask = bytes.fromhex(self.usage)
        object.__setattr__(self, "mask", mask)
        everything = (1 << 8 * (len(mask) - 1)) - 1
        object.__setattr__(self, "unused", ~int.from_bytes(mask[1:], "big") & everything)

    def check_fields(self, cdb: bytes) -> None:
        """Refuses a CDB with a bit set that this unit does not look at, pointing at the bit."""
        if int.from_bytes(cdb, "big") & self.unused:
            self._refuse(cdb)

    def _refuse(self, cdb: bytes) -> None:
        for byte in range(1, len(self.mask)):
            wrong = cdb[byte] & ~self.mask[byte]
            if wrong:
                raise ScsiError(INVALID_FIELD_IN_CDB.at(byte, wrong.bit_length() - 1))


def action_of(cdb: bytes | bytearray) -> int:
    """Where a service action stands (SPC-5 4.2.2, 4.2.3)."""
    return int.from_bytes(cdb[8:10], "big") if cdb[0] == VARIABLE_LENGTH else cdb[1] & 0x1F


class Table:
    """The rows of one kind of device."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._plain: list[Row | None] = [None] * 256
        self._actions: dict[int, dict[int, Row]] = {}
        for row in rows:
            if row.action is None:
                self._plain[row.opcode] = row
            else:
                self._actions.setdefault(row.opcode, {})[row.action] = row

    def __iter__(self) -> Iterator[Row]:
        """In order of opcode, then service action."""
        for opcode in range(256):
            row = self._plain[opcode]
            if row is not None:
                yield row
            for action in sorted(self._actions.get(opcode, ())):
                yield self._actions[opcode][action]

    def offers(self, unit: Unit, opcode: int, action: int | None = None) -> bool:
        """Whether this unit has the command; what INQUIRY announces follows from it."""
        row = self._plain[opcode] if action is None else self._actions.get(opcode, {}).get(action)
        return row is not None and row.needs(unit)

    def find(self, cdb: bytes, unit: Unit) -> Row:
        """The row of a CDB; ScsiError as SPC-5 4.2.1 demands when the unit does not offer it."""
        row = self._plain[cdb[0]] if cdb else None
        if row is None:
            row = self._find_action(cdb, unit)
        if len(row.mask) != len(cdb) or not (row.needs is always or row.needs(unit)):
            raise ScsiError(INVALID_OPCODE)
        return row

    def _find_action(self, cdb: bytes, unit: Unit) -> Row:
        """An opcode none of whose service actions is offered is unknown as a whole."""
        actions = self._actions.get(cdb[0], {}) if len(cdb) >= SHORTEST else {}
        offered = {action: row for action, row in actions.items() if row.needs(unit)}
        if not offered:
            raise ScsiError(INVALID_OPCODE)
        row = offered.get(action_of(cdb))
        if row is None:
            raise ScsiError(INVALID_FIELD_IN_CDB.at(8 if cdb[0] == VARIABLE_LENGTH else 1))
        return row
