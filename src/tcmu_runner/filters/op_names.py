"""What operations are called in options, logs and statistics, and which bytes they are about."""

from __future__ import annotations

from tcmu_runner import iov
from tcmu_runner.scsi.operations import (
    CompareAndWrite,
    CryptoErase,
    Extents,
    Flush,
    HandleCommand,
    MeasureSpace,
    Operation,
    Pause,
    Read,
    Remote,
    Unmap,
    Write,
    WriteSame,
    WriteZeroes,
)

NAMES: dict[type[Operation], str] = {
    Read: "read",
    Write: "write",
    Flush: "flush",
    Unmap: "unmap",
    WriteZeroes: "write_zeroes",
    Extents: "extents",
    MeasureSpace: "space",
    CryptoErase: "crypto_erase",
    CompareAndWrite: "compare_and_write",
    WriteSame: "write_same",
    Remote: "copy",
    HandleCommand: "command",
    Pause: "pause",
}


def kind(operation: Operation) -> str:
    return NAMES[type(operation)]


def extent(operation: Operation) -> tuple[int, int]:
    """(offset, length) in bytes; of an operation on the whole, (0, 0)."""
    match operation:
        case Read():
            return operation.offset, iov.length(operation.into)
        case Write():
            return operation.offset, iov.length(operation.data)
        case CompareAndWrite():
            return operation.offset, iov.length(operation.data)
        case Unmap() | WriteZeroes() | WriteSame() | Extents():
            return operation.offset, operation.length
        case _:
            return 0, 0


def text(operation: Operation) -> str:
    """For people: write of 4096 bytes at 8192."""
    offset, length = extent(operation)
    return f"{kind(operation)} of {length} bytes at {offset}" if length else kind(operation)
