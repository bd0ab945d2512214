"""Storage operations: what a SCSI command needs of the bytes below it.

A command's function yields them, filters map them, a handler performs them. Offsets and lengths are bytes,
multiples of the logical block size, inside the unit, and lengths are never zero. Results are in the
operation's own buffers or fields; a failure is raised at the `yield`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tcmu_runner.iov import Buffers

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Command
    from tcmu_runner.scsi.unit import Unit


@dataclass(slots=True)
class Read:
    """Fill `into` from `offset`."""

    offset: int
    into: Buffers


@dataclass(slots=True)
class Write:
    """Store `data` at `offset`; with `fua` it is on stable storage before the operation ends."""

    offset: int
    data: Buffers
    fua: bool = False


@dataclass(slots=True)
class Flush:
    """Put all earlier writes on stable storage."""


@dataclass(slots=True)
class Unmap:
    """The bytes are no longer needed; they read as zeroes afterwards or keep their content (SBC-4 4.7.3)."""

    offset: int
    length: int


@dataclass(slots=True)
class WriteZeroes:
    """The bytes read as zeroes afterwards; with `unmap` the space may be freed."""

    offset: int
    length: int
    unmap: bool = False
    fua: bool = False


class Extent(NamedTuple):
    """A run of bytes in one provisioning state; a hole is deallocated (SBC-4 4.7)."""

    offset: int
    length: int
    mapped: bool


@dataclass(slots=True)
class Extents:
    """Find the mapped parts of offset..offset+length; `found` gets them in ascending order."""

    offset: int
    length: int
    found: list[Extent] = field(default_factory=list)


class Space(NamedTuple):
    """Bytes below a thin unit. used: by this unit; available: for it and others."""

    used: int
    available: int


@dataclass(slots=True)
class MeasureSpace:
    """Measure the space below the unit; sets `found`. Only for a storage with `space`."""

    found: Space = field(default_factory=lambda: Space(0, 0))


@dataclass(slots=True)
class CryptoErase:
    """Destroy the key of all stored data (SBC-4 4.11.2.4). Only for a storage with `crypto_erase`."""


@dataclass(slots=True)
class CompareAndWrite:
    """If the bytes are `expected`, store `data`; else store nothing and set `mismatch`, the offset in
    `expected` of the first byte that differs. Both have equal length. Only for a storage with
    `compare_and_write`."""

    offset: int
    expected: Buffers
    data: Buffers
    fua: bool = False
    mismatch: int | None = None


@dataclass(slots=True)
class WriteSame:
    """Store `block`, one logical block, repeatedly over the range. Only for a storage with `write_same`."""

    offset: int
    length: int
    block: bytes
    fua: bool = False


@dataclass(slots=True)
class Remote:
    """Perform the operation on another LUN of this process (EXTENDED COPY); only if the unit has `peers`."""

    unit: Unit
    operation: Read | Write


@dataclass(slots=True)
class Pause:
    """Wait so many seconds without blocking other commands. For filters; not passed to layers below."""

    seconds: float


@dataclass(slots=True)
class HandleCommand:
    """Pass the whole command to a raw handler. `handled` stays False if the handler does not handle it."""

    command: Command
    handled: bool = False
    status: int = 0


Operation = (
    Read
    | Write
    | Flush
    | Unmap
    | WriteZeroes
    | Extents
    | MeasureSpace
    | CryptoErase
    | CompareAndWrite
    | WriteSame
    | Remote
    | Pause
    | HandleCommand
)

Steps = Generator[Operation, None, None]

# The result of a command's function: None, one operation, or a generator of several. The single operation
# saves plain READ and WRITE the generator (docs/adr/0002).
Plan = Steps | Operation | None
