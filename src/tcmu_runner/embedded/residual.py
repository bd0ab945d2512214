"""Residual counts: what the initiator expected to move, beside what its command says (RFC 7143, 11.4.5)."""

from __future__ import annotations

from tcmu_runner.embedded.pdu import OVERFLOW, UNDERFLOW
from tcmu_runner.scsi.table import ATOMIC_BLOCKS, BLOCKS_6, BLOCKS_10, BLOCKS_12, BLOCKS_16, Blocks

# Commands that move as many blocks as their CDB says (SBC-4), and the CDB's layout.
_BLOCKS: dict[int, Blocks] = {
    0x08: BLOCKS_6, 0x0A: BLOCKS_6,
    0x28: BLOCKS_10, 0x2A: BLOCKS_10, 0x2E: BLOCKS_10,
    0xA8: BLOCKS_12, 0xAA: BLOCKS_12, 0xAE: BLOCKS_12,
    0x88: BLOCKS_16, 0x8A: BLOCKS_16, 0x8B: BLOCKS_16, 0x8E: BLOCKS_16, 0x9C: ATOMIC_BLOCKS,
}  # fmt: skip
Residual = tuple[int, int]  # OVERFLOW, UNDERFLOW or 0; bytes
NONE: Residual = (0, 0)
COUNT_MAX = 0xFFFFFFFF


def demand(cdb: bytes, block_size: int) -> int | None:
    """The bytes a command wants to move by its CDB alone; None where that is not said there."""
    blocks = _BLOCKS.get(cdb[0])
    return None if blocks is None else blocks(cdb)[1] * block_size


def between(expected: int, moved: int) -> Residual:
    """What is to be told when `expected` bytes were, and `moved` were or would have been moved: a CDB can
    want far more than the 32 bits of a count tell."""
    if moved == expected:
        return NONE
    return (OVERFLOW, min(moved - expected, COUNT_MAX)) if moved > expected else (UNDERFLOW, expected - moved)
