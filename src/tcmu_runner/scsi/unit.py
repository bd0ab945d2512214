"""A logical unit: geometry, identity, limits, state, and the checks every command passes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcmu_runner.scsi.mode_pages import ModeState
from tcmu_runner.scsi.sense import (
    CAPACITY_CHANGED,
    INITIALIZING_COMMAND_REQUIRED,
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    MODE_PARAMETERS_CHANGED,
    WRITE_PROTECTED,
    ScsiError,
    Sense,
)

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Command, Nexus
    from tcmu_runner.scsi.operations import Plan
    from tcmu_runner.scsi.table import Row, Table


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the storage below a unit can do; what a unit announces follows from it."""

    write: bool = False
    flush: bool = False
    unmap: bool = False
    unmap_reads_zero: bool = False
    write_zeroes: bool = False
    extents: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """What INQUIRY says of a unit; serial is the unit serial number, by convention a UUID."""

    vendor: str = "LIO-ORG"
    product: str = "TCMU device"
    revision: str = "2.00"
    serial: str = ""
    company_id: int = 0x001405
    rotational: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """VPD page B0 (SBC-4 6.6.4), in logical blocks; 0 means no limit is reported."""

    max_transfer: int = 0
    optimal_transfer: int = 0
    granularity: int = 1
    max_unmap: int = 0x02000000
    max_unmap_descriptors: int = 256
    unmap_granularity: int = 1
    unmap_alignment: int = 0
    max_write_same: int = 0x02000000


@dataclass(slots=True)
class Unit:
    """block_size: bytes per logical block, a power of two. size: bytes, a multiple of it.
    identify: asked at each INQUIRY, since an administrator may set the serial after the unit is up.

    Not thread-safe by itself: the engine changes geometry only through the methods below, each a single
    assignment that a command running beside it sees whole.
    """

    block_size: int
    size: int
    table: Table
    capabilities: Capabilities
    identify: Callable[[], Identity] = Identity
    limits: Limits = field(default_factory=Limits)
    mode: ModeState = field(init=False)
    stopped: bool = False
    nexuses: set[Nexus] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.mode = ModeState(write_cache=self.capabilities.flush)

    @property
    def blocks(self) -> int:
        return self.size // self.block_size

    @property
    def read_only(self) -> bool:
        return not self.capabilities.write or self.mode.software_write_protect

    def begin(self, command: Command) -> Plan:
        """Checks a command as SPC-5 4.2 and SAM-5 5.14 order it, and starts it.

        Raises ScsiError for everything that ends it at once.
        """
        command.descriptor_sense = self.mode.descriptor_sense
        row = self.table.find(command.cdb, self)
        if row.attention and command.nexus.attentions:
            raise ScsiError(command.nexus.attentions.popleft())
        row.check_fields(command.cdb)
        if row.medium or row.writes:
            self._check_state(row)
        return row.run(self, command)

    def _check_state(self, row: Row) -> None:
        if row.medium and self.stopped:
            raise ScsiError(INITIALIZING_COMMAND_REQUIRED)
        if row.writes and self.read_only:
            raise ScsiError(WRITE_PROTECTED)

    def extent(self, command: Command) -> tuple[int, int]:
        """(offset, length) in bytes of the blocks a CDB addresses; length may be 0."""
        blocks = self.table.find(command.cdb, self).blocks
        assert blocks is not None, "the row of this command does not say where its blocks are"
        lba, count = blocks(command.cdb)
        return self.byte_range(lba, count)

    def byte_range(self, lba: int, count: int) -> tuple[int, int]:
        """Blocks to bytes; LBA OUT OF RANGE beyond the last block (SBC-4 4.5)."""
        offset, length = lba * self.block_size, count * self.block_size
        if offset + length > self.size:
            raise ScsiError(LBA_OUT_OF_RANGE.with_information(max(lba, self.blocks)))
        return offset, length

    def check_transfer(self, count: int) -> None:
        """A transfer above MAXIMUM TRANSFER LENGTH is refused (SBC-4 6.6.4)."""
        if self.limits.max_transfer and count > self.limits.max_transfer:
            raise ScsiError(INVALID_FIELD_IN_CDB)

    def resize(self, size: int) -> None:
        """Takes a new size in bytes and tells every initiator (2A/09)."""
        if size != self.size:
            self.size = size
            self.raise_attention(CAPACITY_CHANGED)

    def raise_attention(self, sense: Sense, *, except_for: Nexus | None = None) -> None:
        for nexus in self.nexuses:
            if nexus is not except_for:
                nexus.raise_attention(sense)

    def mode_changed(self, by: Nexus) -> None:
        """MODE SELECT tells the other initiators (SPC-5 6.14)."""
        self.raise_attention(MODE_PARAMETERS_CHANGED, except_for=by)
