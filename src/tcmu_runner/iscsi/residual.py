"""Residual counts: what the initiator expected to move, beside what its command says (RFC 7143, 11.4.5)."""

from __future__ import annotations

from tcmu_runner.iscsi.responses import OVERFLOW, UNDERFLOW
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Moves

Residual = tuple[int, int]  # OVERFLOW, UNDERFLOW or 0; bytes
NONE: Residual = (0, 0)
COUNT_MAX = 0xFFFFFFFF
_LIMITED = Moves.DATA_IN  # a look-up in an Enum costs as much as the rest, for every command


def demand(cdb: bytes, block_size: int) -> int | None:
    """The bytes a command wants to move by its CDB alone; None where the CDB does not say: of parameter data
    an ALLOCATION LENGTH is only a limit."""
    row = DISK.look_up(cdb)
    return None if row is None or row.moves is _LIMITED else row.data_length(cdb, block_size)


def between(expected: int, moved: int) -> Residual:
    """The count when `expected` bytes were, and `moved` were or would have been moved: a CDB can
    want far more than the 32 bits of a count tell."""
    if moved == expected:
        return NONE
    return (OVERFLOW, min(moved - expected, COUNT_MAX)) if moved > expected else (UNDERFLOW, expected - moved)
