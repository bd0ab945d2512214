"""A SCSI command in a unit, and the nexus over which it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError, Sense

if TYPE_CHECKING:
    from tcmu_runner.scsi.table import Row


class Nexus:
    """One initiator's view of one unit (SAM-5 4.8): its pending unit attentions and its echo buffer.

    The kernel does not tell initiators apart, so a LUN behind LIO has a single nexus. initiator: the
    TransportID (SPC-5 7.6.4). port: the relative target port. Registrations are kept under the two.
    """

    __slots__ = ("attentions", "echo", "initiator", "port")

    def __init__(self, initiator: bytes = b"", port: int = 1) -> None:
        self.initiator = initiator
        self.port = port
        self.attentions: deque[Sense] = deque()
        self.echo: bytes | None = None

    @property
    def who(self) -> tuple[bytes, int]:
        """The I_T nexus by name: sessions of one initiator to one port have the same."""
        return self.initiator, self.port

    def queue_unit_attention(self, sense: Sense) -> None:
        """Queues a unit attention, once per cause (SAM-5 5.14)."""
        if sense not in self.attentions:
            self.attentions.append(sense)


class Command:
    """cdb: of the length that its opcode demands. data: the buffers of the command's one direction.

    id: the engine's. data_in: the second buffers, of a bidirectional command. row: its row of the opcode
    table, once it has begun. returned: valid bytes of data-in; the rest of the buffers is not delivered, or
    zeroed if the transport cannot express that. descriptor_sense: whether sense is in descriptor format, by
    the unit's D_SENSE bit when the command began. withdrawn: the error that ends it if its operations have
    not begun. began: time by the engine's clock.
    """

    __slots__ = (
        "began",
        "cdb",
        "data",
        "data_in",
        "descriptor_sense",
        "id",
        "nexus",
        "returned",
        "row",
        "withdrawn",
    )

    def __init__(
        self, cdb: bytes, data: Buffers, nexus: Nexus, command_id: int = 0, data_in: Sequence[memoryview] = ()
    ) -> None:
        self.cdb = cdb
        self.data = data
        self.nexus = nexus
        self.id = command_id
        self.data_in = data_in
        self.row: Row | None = None
        self.returned: int | None = None
        self.descriptor_sense = False
        self.withdrawn: Exception | None = None
        self.began = 0.0

    def field(self, offset: int, size: int) -> int:
        """A big-endian number of the CDB."""
        return int.from_bytes(self.cdb[offset : offset + size], "big")

    @property
    def lba(self) -> int:
        """LOGICAL BLOCK ADDRESS, of a command that has begun."""
        assert self.row is not None, "the table says where it stands"
        return self.row.layout.address(self.cdb)

    @property
    def data_length(self) -> int:
        """ALLOCATION LENGTH or PARAMETER LIST LENGTH of a command that has begun."""
        assert self.row is not None, "the table says where it stands"
        return self.row.layout.data_length(self.cdb) or 0

    def wrong_count(self) -> ScsiError:
        """INVALID FIELD IN CDB, pointing at the number of blocks."""
        return self._wrong(self.row.layout.count if self.row is not None else None)

    def wrong_data_length(self) -> ScsiError:
        """INVALID FIELD IN CDB, pointing at the field of `data_length`."""
        return self._wrong(self.row.layout.length if self.row is not None else None)

    def _wrong(self, field: object) -> ScsiError:
        assert isinstance(field, tuple), "the table says where it stands"
        return ScsiError(INVALID_FIELD_IN_CDB.at(field[0]))

    def reply(self, payload: bytes, allocation_length: int | None = None) -> None:
        """Answers with parameter data, cut to the allocation length (SPC-5 4.2.5.6) and to the buffers.

        allocation_length: by default the CDB's.
        """
        limit = self.data_length if allocation_length is None else allocation_length
        self.returned = iov.scatter(self.data, payload[:limit])

    def parameter_list(self, size: int) -> bytes:
        """The first `size` bytes of data-out; fewer when the initiator sent fewer."""
        return iov.gather(iov.cut(self.data, 0, size))
