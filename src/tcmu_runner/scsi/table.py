"""The shape of the opcode table: one row per opcode or service action, and the look-up.

Decoding, write protection, REPORT SUPPORTED OPERATION CODES, logs and the documentation read the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tcmu_runner.scsi.cdb import (
    IGNORED_BY_ALL,
    LONGEST_WITH_LUN,
    LUN,
    REFUSED_BY_ALL,
    Blocks,
    CdbLayout,
    Field,
)
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, INVALID_OPCODE, ScsiError

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Command
    from tcmu_runner.scsi.operations import Plan
    from tcmu_runner.scsi.unit import Unit

VARIABLE_LENGTH = 0x7F
SHORTEST = 6  # bytes of any CDB (SPC-5 4.2.2)
Run = Callable[["Unit", "Command"], "Plan"]


class Moves(Enum):
    """The direction and kind of a command's data. Statistics count READ and WRITE as such, the others as
    neither."""

    NOTHING = "nothing"
    READ = "data-in: blocks of the medium"
    WRITE = "data-out: blocks for the medium"
    DATA_IN = "data-in: anything else"
    DATA_OUT = "data-out: a parameter list, or blocks that are only compared"


# When a unit offers a command. The docstrings go into the manual.


def always(_unit: Unit) -> bool:
    """always"""
    return True


def can_unmap(unit: Unit) -> bool:
    """where the storage can unmap"""
    return unit.capabilities.unmap


def knows_extents(unit: Unit) -> bool:
    """where the storage can tell its extents"""
    return unit.capabilities.extents


def can_erase_key(unit: Unit) -> bool:
    """where the storage can throw its key away"""
    return unit.capabilities.crypto_erase


def writes_whole(unit: Unit) -> bool:
    """where the storage stores a write whole or not at all"""
    return unit.capabilities.atomic


def is_removable(unit: Unit) -> bool:
    """on a unit with removable medium"""
    return unit.removable


def keeps_reservations(unit: Unit) -> bool:
    """embedded mode only (behind LIO the kernel answers)"""
    return unit.reservations is not None


def knows_luns(unit: Unit) -> bool:
    """embedded mode only (behind LIO the kernel answers)"""
    return unit.luns is not None


def knows_ports(unit: Unit) -> bool:
    """where target port groups are known"""
    return unit.ports is not None


def sets_states(unit: Unit) -> bool:
    """where target port groups can be changed explicitly"""
    return unit.ports is not None and unit.ports.explicit


@dataclass(frozen=True, slots=True)
class Row:
    """One command that a unit may offer.

    layout: positions of LBA, number of blocks and length of data in its CDB; all of these bits are evaluated.
    flags: a mask of the other bits that are evaluated, in hex, from byte 1 on.
    refuses: fields that must be zero (else INVALID FIELD IN CDB), beside those that all commands refuse.
    ignores: named fields of any value. Bits that are named nowhere are ignored, too.
    needs: whether a unit offers the command; its docstring says so in words.
    medium: refused while the medium is stopped, ejected or being formatted. writes: refused on a
        write-protected unit.
    moves: direction and kind of its data. data_blocks: blocks of data, from the CDB and its number of blocks,
        if they differ from that number.
    exclusive: must not overlap in time with other commands on its blocks; the engine ensures that.
    outlives: what it has begun goes on when the command is aborted.
    attention: reports a pending unit attention instead of running (all but INQUIRY and the like).
    plain: nothing but a read or a write of all its blocks, unless a flag is set (Unit.plain).
    access: what it does to a unit that another nexus has reserved; by default derived from `writes` and
        `blocks`.

    blocks: reads (LBA, number of blocks) from the CDB; None for a command that addresses no blocks.
    mask: the CDB usage data of SPC-4 6.35.3: opcode, service action, and the bits that are evaluated.
    """

    opcode: int
    name: str
    layout: CdbLayout
    flags: str
    run: Run
    action: int | None = None
    needs: Callable[[Unit], bool] = always
    medium: bool = False
    writes: bool = False
    moves: Moves = Moves.NOTHING
    data_blocks: Callable[[bytes, int], int] | None = None
    exclusive: bool = False
    outlives: bool = False
    attention: bool = True
    plain: bool = False
    access: Access = Access.HARMLESS
    refuses: tuple[Field, ...] = ()
    ignores: tuple[Field, ...] = ()
    blocks: Blocks | None = field(init=False)
    mask: bytes = field(init=False)
    _moved: Blocks | None = field(init=False)  # the same as `blocks`, where it is blocks that move
    _refused: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", self.layout.reader())
        object.__setattr__(self, "_moved", self.blocks if self.moves is not Moves.NOTHING else None)
        if self.access == Access.HARMLESS and (self.writes or self.blocks):
            object.__setattr__(self, "access", Access.WRITES if self.writes else Access.READS)
        object.__setattr__(self, "mask", self._usage())
        object.__setattr__(self, "refuses", (*self.refuses, *REFUSED_BY_ALL))
        object.__setattr__(self, "ignores", (*self.ignores, *self._lun(), *IGNORED_BY_ALL))
        object.__setattr__(self, "_refused", _together(self.refuses, len(self.mask)))

    def _usage(self) -> bytes:
        flags = (b"\0" + bytes.fromhex(self.flags)).ljust(self.layout.size, b"\0")
        return self._with_code(int.from_bytes(flags, "big") | self.layout.mask)

    def _with_code(self, fields: int) -> bytes:
        """A CDB with these bits, and with the opcode and the service action in place."""
        at, size = (8, 2) if self.opcode == VARIABLE_LENGTH else (1, 1)  # SPC-5 4.2.2, 4.2.3
        fields |= self.opcode << 8 * (self.layout.size - 1)
        fields |= (self.action or 0) << 8 * (self.layout.size - at - size)
        return fields.to_bytes(self.layout.size, "big")

    def _lun(self) -> tuple[Field, ...]:
        """The LUN field of SCSI-2, unless its bits have another meaning in this CDB."""
        length = len(self.mask)
        known = int.from_bytes(self.mask, "big") | _together(self.refuses + self.ignores, length)
        return (LUN,) if length <= LONGEST_WITH_LUN and not known & LUN.mask(length) else ()

    def data_length(self, cdb: bytes, block_size: int) -> int | None:
        """Bytes of data by the CDB; of DATA_IN at most so many, since an ALLOCATION LENGTH is a limit (SPC-5
        4.2.5.6). None if the CDB does not say: FORMAT UNIT's list contains its own length."""
        if self._moved is None:
            return 0 if self.moves is Moves.NOTHING else self.layout.data_length(cdb)
        count = self._moved(cdb)[1]
        return (count if self.data_blocks is None else self.data_blocks(cdb, count)) * block_size

    def cdb(self, lba: int = 0, count: int = 0, *, length: int = 0) -> bytes:
        """A CDB of this command with these values and without flags."""
        return self._with_code(self.layout.filled(lba, count, length))

    def check_fields(self, cdb: bytes) -> None:
        """Refuses a CDB with a field that this unit does not support; the sense points at the bit."""
        wrong = int.from_bytes(cdb, "big") & self._refused
        if wrong:
            bit = wrong.bit_length() - 1  # the first, which is the highest
            raise ScsiError(INVALID_FIELD_IN_CDB.at(len(cdb) - 1 - bit // 8, bit % 8))


def _together(fields: Iterable[Field], length: int) -> int:
    """The bits of all the fields, in a CDB of that length."""
    bits = 0
    for each in fields:
        bits |= each.mask(length)
    return bits


def action_of(cdb: bytes | bytearray) -> int:
    """The service action (SPC-5 4.2.2, 4.2.3)."""
    return int.from_bytes(cdb[8:10], "big") if cdb[0] == VARIABLE_LENGTH else cdb[1] & 0x1F


class Table:
    """The rows of one kind of device."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._plain: list[Row | None] = [None] * 256
        self._actions: dict[int, dict[int, Row]] = {}
        self._named: dict[str, Row] = {}
        # By opcode: the row, its reader of LBA and count, and the mask of all bits beside opcode, LBA, count.
        self.plain: dict[int, tuple[Row, Blocks, int]] = {}
        for row in rows:
            self._named[row.name] = row
            if row.plain and row.blocks is not None:
                others = (1 << 8 * (row.layout.size - 1)) - 1 & ~row.layout.mask
                self.plain[row.opcode] = row, row.blocks, others
            if row.action is None:
                self._plain[row.opcode] = row
            else:
                self._actions.setdefault(row.opcode, {})[row.action] = row

    def __iter__(self) -> Iterator[Row]:
        """Sorted by opcode, then service action."""
        for opcode in range(256):
            row = self._plain[opcode]
            if row is not None:
                yield row
            for action in sorted(self._actions.get(opcode, ())):
                yield self._actions[opcode][action]

    def moving(self, *ways: Moves) -> frozenset[int]:
        """The opcodes of commands with data of these kinds."""
        return frozenset(row.opcode for row in self if row.moves in ways)

    def row(self, name: str) -> Row:
        """The row of a command by its name in the standard, such as "WRITE SAME(16)". Raises KeyError."""
        return self._named[name]

    def offers(self, unit: Unit, name: str) -> bool:
        """Whether this unit offers the command; INQUIRY data depend on it."""
        row = self._named.get(name)
        return row is not None and row.needs(unit)

    def look_up(self, cdb: bytes) -> Row | None:
        """The row of a CDB, whether or not a unit offers it; None without a row."""
        return self._plain[cdb[0]] or self._actions.get(cdb[0], {}).get(action_of(cdb))

    def find(self, cdb: bytes, unit: Unit) -> Row:
        """The row of a CDB; ScsiError as SPC-5 4.2.1 demands when the unit does not offer it."""
        row = self._plain[cdb[0]] if cdb else None
        if row is None:
            row = self._find_action(cdb, unit)
        if len(row.mask) != len(cdb) or not (row.needs is always or row.needs(unit)):
            raise ScsiError(INVALID_OPCODE)
        return row

    def _find_action(self, cdb: bytes, unit: Unit) -> Row:
        """An opcode without any offered service action is unknown as a whole (INVALID COMMAND OPERATION
        CODE)."""
        actions = self._actions.get(cdb[0], {}) if len(cdb) >= SHORTEST else {}
        offered = {action: row for action, row in actions.items() if row.needs(unit)}
        if not offered:
            raise ScsiError(INVALID_OPCODE)
        row = offered.get(action_of(cdb))
        if row is None:
            raise ScsiError(INVALID_FIELD_IN_CDB.at(8 if cdb[0] == VARIABLE_LENGTH else 1))
        return row
