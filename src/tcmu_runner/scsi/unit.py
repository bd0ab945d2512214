"""A logical unit: geometry, identity, limits, state, and the checks every command passes first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tcmu_runner.scsi.medium import Medium
from tcmu_runner.scsi.mode_pages import ModeState
from tcmu_runner.scsi.operations import MeasureSpace
from tcmu_runner.scsi.profile import Capabilities, Identity, Limits
from tcmu_runner.scsi.reservations import Access
from tcmu_runner.scsi.sense import (
    CAPACITY_CHANGED,
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    LUN_RESET,
    MODE_PARAMETERS_CHANGED,
    NO_SENSE,
    THRESHOLD_REACHED,
    WRITE_PROTECTED,
    ScsiError,
    Sense,
)

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Command, Nexus
    from tcmu_runner.scsi.operations import Plan, Steps
    from tcmu_runner.scsi.ports import TargetPorts
    from tcmu_runner.scsi.reservations import Reservations
    from tcmu_runner.scsi.table import Row, Table
    from tcmu_runner.scsi.xcopy import CopyResults, Peers

FUA = 0x08  # in byte 1 of all CDBs of more than 6 bytes that have it

__all__ = ["Capabilities", "Identity", "Limits", "Unit"]


def _nothing() -> None:
    """For a unit without a record of its state."""


@dataclass(slots=True)
class Unit:
    """block_size: bytes per logical block, a power of two. size: bytes, a multiple of it. identify: called at
    each INQUIRY, since an administrator may set the serial later.

    Services that a front end may provide; the unit announces features by them: removable: the medium can be
    ejected. reservations: kept here (behind LIO the kernel keeps them). ports: target port groups. luns:
    returns the numbers for REPORT LUNS (behind LIO the kernel answers). peers: finds LUNs for EXTENDED COPY.
    spawn: runs steps in the background, for IMMED. abort: ends the commands of a nexus. remember: called on
    any thread after each change of state that initiators rely on (scsi/unit_state.py), before the command
    that made it ends. task_management: the two bytes of REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    answered_by_target: opcodes that the target in front of the unit answers itself. tells_residuals: the
    transport reports to initiators how much of their data was not taken, so a WRITE may come with less data
    than its CDB says.

    `begin` is called on one thread. `resize`, `defer` and `queue_unit_attention` may be called on any: each
    is a single assignment or append, which a concurrent command sees whole."""

    block_size: int
    size: int
    table: Table
    capabilities: Capabilities
    identify: Callable[[], Identity] = Identity
    limits: Limits = field(default_factory=Limits)
    removable: bool = False
    reservations: Reservations | None = None
    ports: TargetPorts | None = None
    luns: Callable[[], Sequence[int]] | None = None
    peers: Peers | None = None
    spawn: Callable[[Steps], None] | None = None
    abort: Callable[[Nexus], None] | None = None
    task_management: bytes = b"\x88\x00"  # ABORT TASK and LOGICAL UNIT RESET
    answered_by_target: Container[int] = frozenset()
    tells_residuals: bool = False
    remember: Callable[[], None] = _nothing
    mode: ModeState = field(init=False)
    medium: Medium = field(default_factory=Medium, init=False)
    nexuses: set[Nexus] = field(default_factory=set, init=False)
    copies: dict[tuple[Nexus, int], CopyResults] = field(default_factory=dict, init=False)
    buffer: bytearray = field(default_factory=bytearray, init=False)  # for READ BUFFER and WRITE BUFFER
    self_tests: deque[bytes] = field(default_factory=lambda: deque(maxlen=20), init=False)  # newest first
    short_of_space: bool = field(default=False, init=False)  # soft threshold reached, and reported

    def __post_init__(self) -> None:
        self.mode = ModeState.default(self.capabilities)
        self.medium.changed = self._medium_changed

    def _medium_changed(self) -> None:
        self.remember()  # still _nothing: a front end sets it later

    @property
    def blocks(self) -> int:
        return self.size // self.block_size

    @property
    def read_only(self) -> bool:
        return not self.capabilities.write or self.mode.software_write_protect

    def begin(self, command: Command) -> Plan:
        """Checks a command in the order of SPC-5 4.2 and SAM-5 5.3.3 and 5.14, and starts it.

        Raises ScsiError or ScsiStatusError if a check fails.
        """
        command.descriptor_sense = self.mode.descriptor_sense
        row = command.row = self.table.find(command.cdb, self)
        if row.attention and command.nexus.attentions:
            raise ScsiError(self.next_attention(command.nexus))
        if self.reservations is not None:
            self.reservations.check(command.nexus, row.access)
        row.check_fields(command.cdb)
        if row.medium and not self.medium.ready:
            raise ScsiError(self.medium.obstacle() or NO_SENSE)
        if row.writes and (self.mode.software_write_protect or not self.capabilities.write):
            raise ScsiError(WRITE_PROTECTED)
        return row.run(self, command)

    def check_access(self, nexus: Nexus, access: Access) -> None:
        """For a command that decides by its fields what it does to a reserved unit."""
        if self.reservations is not None:
            self.reservations.check(nexus, access)

    def undisturbed(self) -> bool:
        """Whether no reservation, unit attention or medium state would stop a READ or WRITE in `begin`.

        An earlier command of a batch may change the answer; plain ones do not.
        """
        held = self.reservations
        if held is not None and (held.type is not None or held.reserved_by is not None):
            return False
        for nexus in self.nexuses:  # any() costs twice as much
            if nexus.attentions:
                return False
        return self.medium.ready

    def plain(self, cdb: bytes, length: int) -> tuple[Row, int] | None:
        """The row and the offset in bytes of a plain READ or WRITE, nearly all commands of a disk; faster
        than `begin`, which would make of it one Read or Write of all its buffers. length: of its buffers.

        None for any other command, one with a flag set, with buffers of another length than in the CDB, or
        that fails. The unit is undisturbed.
        """
        found = self.table.plain.get(cdb[0])
        if found is None:
            return None
        row, blocks, others = found
        lba, count = blocks(cdb)
        block_size = self.block_size
        offset = lba * block_size
        if (
            count * block_size != length
            or offset + length > self.size
            or 0 < self.limits.max_transfer < count
            or int.from_bytes(cdb) & others
            or not length
            or (row.writes and not self._writes_freely())
        ):
            return None
        return row, offset

    def _writes_freely(self) -> bool:
        """Whether a write may end before it is on stable storage, or the storage has no cache."""
        can, mode = self.capabilities, self.mode
        return can.write and not mode.software_write_protect and (mode.write_cache or not can.flush)

    def writes_through(self, command: Command) -> bool:
        """Whether a write has to be on stable storage before it ends, by FUA in byte 1 or WCE=0."""
        return bool(command.cdb[1] & FUA) or not self.mode.write_cache

    # blocks

    def extent(self, command: Command) -> tuple[int, int]:
        """(offset, length) in bytes of the blocks that a CDB addresses; length may be 0."""
        row = command.row or self.table.find(command.cdb, self)
        assert row.blocks is not None, "the row of this command does not say where its blocks are"
        lba, count = row.blocks(command.cdb)
        return self.byte_range(lba, count)

    def extent_within(self, command: Command, most: int) -> tuple[int, int]:
        """`extent` of a command that VPD page B0h limits to `most` blocks: beyond it the count is wrong."""
        offset, length = self.extent(command)
        if length > most * self.block_size:
            raise command.wrong_count()
        return offset, length

    def transfer(self, command: Command) -> tuple[int, int]:
        """`extent` of a command that moves all of its blocks: refused above MAXIMUM TRANSFER LENGTH (SBC-4
        6.6.4). Called for each READ and WRITE, so it calls little itself."""
        row = command.row
        assert row is not None and row.blocks is not None, "only for a command that has begun"
        lba, count = row.blocks(command.cdb)
        offset, length = lba * self.block_size, count * self.block_size
        if offset + length > self.size or 0 < self.limits.max_transfer < count:
            self.byte_range(lba, count)  # LBA OUT OF RANGE comes first
            raise ScsiError(INVALID_FIELD_IN_CDB)
        return offset, length

    def byte_range(self, lba: int, count: int) -> tuple[int, int]:
        """Blocks to bytes; LBA OUT OF RANGE beyond the last block (SBC-4 4.5)."""
        offset, length = lba * self.block_size, count * self.block_size
        if offset + length > self.size:
            raise ScsiError(LBA_OUT_OF_RANGE.with_information(max(lba, self.blocks)))
        return offset, length

    def footprint(self, command: Command) -> tuple[int, int] | None:
        """(offset, length) in bytes of all that a command which has begun may touch; all blocks for a command
        with ranges in its parameter list. None: it touches no blocks."""
        row: Row | None = command.row
        if row is None:
            return None
        if row.blocks is None:
            return (0, self.size) if row.writes else None
        lba, count = row.blocks(command.cdb)
        return lba * self.block_size, count * self.block_size

    # events

    def resize(self, size: int) -> None:
        """Takes a new size in bytes; initiators get CAPACITY DATA HAS CHANGED (2A/09)."""
        if size != self.size:
            self.size = size
            self.queue_unit_attention(CAPACITY_CHANGED)

    def queue_unit_attention(self, sense: Sense, *, except_for: Nexus | None = None) -> None:
        for nexus in tuple(self.nexuses):
            if nexus is not except_for:
                nexus.queue_unit_attention(sense)
        self.remember()

    def next_attention(self, nexus: Nexus) -> Sense:
        """Removes and returns the oldest pending unit attention."""
        sense = nexus.attentions.popleft()
        self.remember()
        return sense

    def defer(self, sense: Sense) -> None:
        """Reports a failure of a command that has ended, as of a write-back cache, as a deferred error (SPC-5
        4.4.7) to every initiator: the data's owner is not known."""
        self.queue_unit_attention(replace(sense, deferred=True))

    def mode_changed(self, by: Nexus) -> None:
        """MODE SELECT queues MODE PARAMETERS CHANGED for the other initiators (SPC-5 6.12)."""
        self.queue_unit_attention(MODE_PARAMETERS_CHANGED, except_for=by)

    @property
    def watches_space(self) -> bool:
        """Whether `check_space` has to run from time to time."""
        return self.capabilities.space and self.limits.soft_threshold > 0

    def check_space(self) -> Steps:
        """Queues SOFT THRESHOLD REACHED, once, when the soft threshold is reached (SBC-4 4.7.3.7)."""
        yield (measured := MeasureSpace())
        used, available = measured.found
        short = used * 100 >= (used + available) * self.limits.soft_threshold
        before, self.short_of_space = self.short_of_space, short
        if short and not before:
            self.queue_unit_attention(THRESHOLD_REACHED)

    # nexuses

    def connect(self, nexus: Nexus, attention: Sense | None = None) -> None:
        """Adds an I_T nexus. attention: its first unit attention (29/00 or 29/07), if any."""
        self.nexuses.add(nexus)
        if attention is not None:
            nexus.queue_unit_attention(attention)

    def disconnect(self, nexus: Nexus) -> None:
        """The loss of an I_T nexus (SAM-5 6.3.4): ends its RESERVE, its prevention of medium removal and its
        copy results; registrations stay."""
        self.nexuses.discard(nexus)
        self._let_go(nexus)

    def _let_go(self, nexus: Nexus) -> None:
        self.medium.prevented_by.discard(nexus)
        if self.reservations is not None:
            self.reservations.release_unit(nexus)
        for key in [key for key in self.copies if key[0] is nexus]:
            del self.copies[key]

    def reset(self, attention: Sense | None = LUN_RESET) -> None:
        """A logical unit reset (SAM-5 6.3.3): reservations by RESERVE end, mode pages get their default
        values; registrations stay, and a FORMAT or SANITIZE under way goes on. The engine aborts commands.
        attention: None if the target reports the reset to initiators.

        A write cache that was switched off stays off, as if MODE SELECT had saved it (SPC-5 6.12): Linux
        resets a unit with late commands and does not read WCE again, so it would go on without SYNCHRONIZE
        CACHE."""
        for nexus in tuple(self.nexuses):
            self._let_go(nexus)
        self.medium.prevented_by.clear()
        cached = self.mode.write_cache
        self.mode = ModeState.default(self.capabilities)
        self.mode.write_cache = self.mode.write_cache and cached
        if attention is not None:
            self.queue_unit_attention(attention)
        self.remember()
