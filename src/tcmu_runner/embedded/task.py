"""One SCSI command of a session, from its PDU to its response."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from tcmu_runner.embedded.local import MAX_TRANSFER, LocalCommand
from tcmu_runner.iscsi.framing import NO_DATA
from tcmu_runner.iscsi.requests import READ, WRITE, ScsiCommand
from tcmu_runner.ring.layout import CDB_LENGTHS, cdb_length

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.iscsi.transfer import Gathering

EXTENDED_CDB, BIDI_LENGTH = 1, 2  # types of additional header segments (11.2.2.1)


class Answer(Enum):
    """What the initiator is told when a task ends."""

    RESULT = auto()
    NOTHING = auto()  # it aborted the task itself
    TASK_ABORTED = auto()  # another initiator did


RESULT = Answer.RESULT  # looked up for each command


class Task(LocalCommand):
    """connection: the one its command came on, and its answer goes to. lun: the unit, or None.

    gathering: its Data-Out until that is complete. submitted: its unit has it. expected, bidi_expected: the
    bytes the initiator expects to move; of a bidirectional command, the first is out, the second in. over: it
    was answered, or nobody waits for its answer. when_ended: called after its end by those who wait for it.
    """

    lun: LocalLun | None = None
    gathering: Gathering | None = None
    submitted = False
    answer = RESULT
    over = False
    when_ended: tuple[Callable[[], None], ...] = ()

    def __init__(
        self, pdu: ScsiCommand, cdb: bytes, bidi_expected: int, connection: Connection,
        ended: Callable[[Task], None],
    ) -> None:  # fmt: skip
        self.pdu = pdu
        self.connection = connection
        self._ended = ended
        self.expected = expected = pdu.expected_length
        flags = pdu.flags
        self.reads, self.writes = bool(flags & READ), bool(flags & WRITE)
        if not self.reads:
            expected = 0
        elif self.writes:
            expected = bidi_expected
        self.data_in_expected = expected
        super().__init__(cdb, NO_DATA, min(expected, MAX_TRANSFER))

    def completed(self) -> None:
        self._ended(self)

    @property
    def on_ring(self) -> bool:
        return self.submitted and self.status is None


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
