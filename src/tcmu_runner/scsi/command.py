"""A SCSI command on its way through a unit, and the nexus it came over."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.sense import Sense

if TYPE_CHECKING:
    from tcmu_runner.scsi.table import Row


class Nexus:
    """One initiator's view of one unit (SAM-5 4.8): its pending unit attentions and its echo buffer.

    The kernel does not tell initiators apart, so a LUN behind LIO has a single nexus. initiator: the
    TransportID (SPC-5 7.6.4); port: the relative target port. The two are what registrations are kept under.
    """

    __slots__ = ("attentions", "echo", "initiator", "port")

    def __init__(self, initiator: bytes = b"", port: int = 1) -> None:
        self.initiator = initiator
        self.port = port
        self.attentions: deque[Sense] = deque()
        self.echo: bytes | None = None

    @property
    def who(self) -> tuple[bytes, int]:
        """The I_T nexus by name: a new session of the same initiator to the same port is the same one."""
        return self.initiator, self.port

    def raise_attention(self, sense: Sense) -> None:
        """Queues a unit attention, once per cause (SAM-5 5.14)."""
        if sense not in self.attentions:
            self.attentions.append(sense)


class Command:
    """cdb: as long as its opcode says. data: the buffers of the one direction the command has.

    id: whatever the engine knows it by. data_in: the second buffers of a bidirectional command.
    row: its row of the opcode table, once it has begun. returned: bytes of data-in that are valid; the rest
    of the buffers is not delivered, or zeroed where the transport cannot say so. descriptor_sense: how sense
    is encoded should the command fail, as the unit's D_SENSE bit stood when it began. withdrawn: what it ends
    in, where its operations have not begun. began: when, by the engine's clock.
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

    def reply(self, payload: bytes, allocation_length: int) -> None:
        """Answers with parameter data, cut to the allocation length (SPC-5 4.2.5.6) and to the buffers."""
        self.returned = iov.scatter(self.data, payload[:allocation_length])

    def parameter_list(self, size: int) -> bytes:
        """The first `size` bytes of data-out; fewer when the initiator sent fewer."""
        return iov.gather(iov.cut(self.data, 0, size))
