"""A SCSI command between its PDU and its answer (RFC 7143, 11.3)."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from tcmu_runner.iscsi.pdu import IMMEDIATE
from tcmu_runner.iscsi.requests import READ, WRITE, ScsiCommand
from tcmu_runner.ring.layout import CDB_LENGTHS, cdb_length

if TYPE_CHECKING:
    from tcmu_runner.iscsi.outbound import Outbound
    from tcmu_runner.iscsi.transfer import Gathering

EXTENDED_CDB, BIDI_LENGTH = 1, 2  # types of additional header segments (11.2.2.1)


class Disposition(Enum):
    """What the initiator is answered when a command ends."""

    RESULT = auto()
    NOTHING = auto()  # it aborted the command itself
    TASK_ABORTED = auto()  # another initiator did


RESULT = Disposition.RESULT  # looked up for each command


class PendingCommand:
    """The event of a connection that a command is here with all its data; before that it is gathered.

    connection: the one that it came on, and that its answer goes to. gathering: its Data-Out, if any was to
    come; of a command that has just been handed out, valid until more is received. expected,
    data_in_expected: the bytes that the initiator expects to move, and those of them that are Data-In; of a
    bidirectional command `expected` is the Data-Out. promised: the bytes of Data-In that it has room for.
    over: it was answered, or is not going to be.
    """

    gathering: Gathering | None = None
    disposition = RESULT
    promised = 0
    over = False

    def __init__(self, connection: Outbound, pdu: ScsiCommand, cdb: bytes, bidi_expected: int) -> None:
        self.connection = connection
        self.pdu = pdu
        self.cdb = cdb
        self.expected = expected = pdu.expected_length
        flags = pdu.flags
        self.reads, self.writes = bool(flags & READ), bool(flags & WRITE)
        if not self.reads:
            expected = 0
        elif self.writes:
            expected = bidi_expected
        self.data_in_expected = expected

    def finish(self) -> None:
        """Its tag and its place in the window are free again; the room for its Data-In is once the
        connection has sent what there is."""
        connection, pdu = self.connection, self.pdu
        session, self.over = connection.session, True
        del session.commands[pdu.tag]
        if self.gathering is not None:
            session.gathered(self.gathering.length)
        session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.ended += self.promised


class MalformedCommandError(Exception):
    """The header segments do not make a CDB."""


def read_cdb(pdu: ScsiCommand, ahs: bytes) -> tuple[bytes, int]:
    """The CDB, as long as it says it is, and the bidirectional read length (11.2.2, 11.3.5)."""
    if not ahs and (size := CDB_LENGTHS[pdu.cdb[0]]):
        return pdu.cdb[:size], 0
    cdb, bidi = pdu.cdb, 0
    at = 0
    while at + 4 <= len(ahs):
        length, kind = int.from_bytes(ahs[at : at + 2], "big"), ahs[at + 2]
        content = ahs[at + 4 : at + 3 + length]  # the length counts the reserved byte after the type, too
        if kind == EXTENDED_CDB:
            cdb += content
        elif kind == BIDI_LENGTH and len(content) == 4:
            bidi = int.from_bytes(content, "big")
        at += 3 + length + (-(3 + length) & 3)
    size = cdb_length(cdb)
    if len(cdb) < size:
        raise MalformedCommandError(f"CDB of {size} bytes in a command with {len(cdb)}")
    return cdb[:size], bidi
