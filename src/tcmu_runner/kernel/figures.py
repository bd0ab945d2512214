"""Statistics as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from tcmu_runner.engine.statistics import Opcode, Snapshot
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.units import format_size


def summary(snapshot: Snapshot) -> Iterator[str]:
    """The state, then a line for each opcode and each kind of error that has occurred."""
    oldest = f", the oldest for {snapshot.oldest:.1f} s" if snapshot.oldest else ""
    yield f"{snapshot.under_way} commands under way{oldest}"
    for opcode in snapshot.opcodes:
        yield (
            f"{name(opcode.opcode)}: {opcode.count} commands, {format_size(opcode.bytes)}, "
            f"{opcode.errors} errors, mean {opcode.microseconds // opcode.count} us, "
            f"99 % below {percentile(opcode, 0.99)} us"
        )
    for (status, key, asc, ascq), count in snapshot.errors.items():
        yield f"status {status:02X} sense {key:X}/{asc:02X}/{ascq:02X}: {count} commands"


def percentile(opcode: Opcode, part: float) -> int:
    """Microseconds below which this part of the commands ended: the upper edge of its bucket."""
    left = part * opcode.count
    for bucket, count in enumerate(opcode.histogram):
        left -= count
        if left <= 0:
            return 1 << bucket
    return 1 << len(opcode.histogram)


def name(opcode: int) -> str:
    """Of an opcode with service actions, that of the first."""
    return next((row.name for row in DISK if row.opcode == opcode), f"opcode {opcode:02X}")
