"""Statistics as text."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tcmu_runner.engine.observe.statistics import OpcodeStatistics, Snapshot
from tcmu_runner.scsi import sense
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import Sense, SenseKey, Status
from tcmu_runner.units import format_size

_NAMES = {
    (value.key, value.asc, value.ascq): name.replace("_", " ").lower()
    for name, value in vars(sense).items()
    if isinstance(value, Sense)
}


def summary(snapshot: Snapshot) -> Iterator[str]:
    """Lines: the state, then each opcode, each kind of error that has occurred, each slow command."""
    oldest = f", the oldest for {snapshot.oldest:.1f} s" if snapshot.oldest else ""
    yield f"{snapshot.under_way} commands under way{oldest}"
    for opcode in snapshot.opcodes:
        yield (
            f"{name(opcode.opcode)}: {opcode.count} commands, {format_size(opcode.bytes)}, "
            f"{opcode.errors} errors, mean {opcode.microseconds // opcode.count} us, "
            f"99 % below {percentile(opcode, 0.99)} us"
        )
    for (status, key, asc, ascq), count in snapshot.errors.items():
        yield f"{error_name(status, key, asc, ascq)}: {count} commands"
    if snapshot.slow:
        yield f"{snapshot.slow_count} slow commands, the last of them:"
    for slow in snapshot.slow:
        when = time.strftime("%H:%M:%S", time.localtime(slow.ended))
        yield f"{when} {name(slow.cdb[0])} {slow.cdb.hex()}, {format_size(slow.bytes)}, {slow.seconds:.3f} s"


def percentile(opcode: OpcodeStatistics, part: float) -> int:
    """Microseconds below which this part of the commands ended (upper edge of a bucket)."""
    left = part * opcode.count
    for bucket, count in enumerate(opcode.histogram):
        left -= count
        if left <= 0:
            return 1 << bucket
    return 1 << len(opcode.histogram)


def name(opcode: int) -> str:
    """The command's name; of an opcode with service actions, that of the first."""
    return next((row.name for row in DISK if row.opcode == opcode), f"opcode {opcode:02X}")


def error_name(status: int, key: int, asc: int, ascq: int) -> str:
    """A command's ending: 'BUSY', or with sense 'MEDIUM ERROR 11/00 (unrecovered read error)'."""
    if status != Status.CHECK_CONDITION:
        return _words(Status, status, f"status {status:02X}")
    meaning = _NAMES.get((key, asc, ascq))
    code = f"{_words(SenseKey, key, f'sense key {key:X}')} {asc:02X}/{ascq:02X}"
    return f"{code} ({meaning})" if meaning else code


def _words(kind: type[Status | SenseKey], value: int, otherwise: str) -> str:
    return kind(value).name.replace("_", " ") if value in set(kind) else otherwise
