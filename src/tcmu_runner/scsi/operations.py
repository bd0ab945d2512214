"""Storage operations: what a SCSI command asks of the bytes below it.

A command function yields them, a filter maps them, a handler performs them. Offsets and lengths are bytes,
multiples of the logical block size, inside the unit, and lengths are never zero. Results travel in the
operation's own buffers; a failure is raised at the `yield`.
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
    """Everything written before is on stable storage when this ends."""


@dataclass(slots=True)
class Unmap:
    """The bytes are no longer needed; they read as zeroes afterwards or keep their content (SBC-4 4.7.3)."""

    offset: int
    length: int


@dataclass(slots=True)
class WriteZeroes:
    """The bytes read as zeroes afterwards; `unmap` allows giving the space back."""

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
    """Ask which parts of offset..offset+length are mapped; `found` is filled in order of offset."""

    offset: int
    length: int
    found: list[Extent] = field(default_factory=list)


class Space(NamedTuple):
    """Bytes below a thin unit: what it takes there, what is left for it and others."""

    used: int
    available: int


@dataclass(slots=True)
class MeasureSpace:
    """Ask for the space below the unit; `found` is set. Asked only of a storage that can tell."""

    found: Space = field(default_factory=lambda: Space(0, 0))


@dataclass(slots=True)
class CryptoErase:
    """Forget the key of all that is stored (SBC-4 4.11.2.4); asked only of a storage that can."""


@dataclass(slots=True)
class CompareAndWrite:
    """Store `data` where the bytes are `expected`, else nothing: then `mismatch` is the offset of the first
    byte that differs, in `expected`. Both are equally long. Asked only of a storage that can."""

    offset: int
    expected: Buffers
    data: Buffers
    fua: bool = False
    mismatch: int | None = None


@dataclass(slots=True)
class WriteSame:
    """Store `block`, of the block size, again and again over the range. Asked only of a storage that can."""

    offset: int
    length: int
    block: bytes
    fua: bool = False


@dataclass(slots=True)
class Remote:
    """Do the operation on another LUN of this daemon (EXTENDED COPY); asked only where `peers` are lent."""

    unit: Unit
    operation: Read | Write


@dataclass(slots=True)
class Pause:
    """Wait so many seconds without keeping others waiting: for filters; no layer below sees it."""

    seconds: float


@dataclass(slots=True)
class HandleCommand:
    """Hand the whole command to a raw handler. `handled` stays False where it has nothing to say to it."""

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

# What a command function returns: nothing more to do, one operation which is all that is left to do, or the
# generator of several. The single operation spares plain READ and WRITE the generator (docs/adr/0002).
Plan = Steps | Operation | None
