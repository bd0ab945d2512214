"""Names of operations in options, logs and statistics, and their byte ranges."""

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
    """(offset, length) in bytes; (0, 0) for an operation without a range."""
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
    """For log lines: write of 4096 bytes at 8192."""
    offset, length = extent(operation)
    return f"{kind(operation)} of {length} bytes at {offset}" if length else kind(operation)
