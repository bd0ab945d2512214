"""What became of a command given to the producer; and the answers that the kernel gives by itself."""

from collections.abc import Sequence

from tcmu_runner.ring.layout import SENSE_LENGTH, Iov

# SAM-5 5.3.1
GOOD, CHECK_CONDITION, BUSY, TASK_SET_FULL, TASK_ABORTED = 0x00, 0x02, 0x08, 0x28, 0x40


def _sense(key: int, asc: int, ascq: int) -> bytes:
    """Fixed format sense data (SPC-4 4.5.3), as long as the kernel always sends it."""
    return bytes((0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq)).ljust(SENSE_LENGTH, b"\0")


# Status and sense
COMMUNICATION_FAILURE = CHECK_CONDITION, _sense(0x02, 0x08, 0x00)  # NOT READY, LU COMMUNICATION FAILURE
INVALID_FIELD = CHECK_CONDITION, _sense(0x05, 0x24, 0x00)  # ILLEGAL REQUEST, INVALID FIELD IN CDB


class Ticket:
    """A command on its way. Once `status` is not None, it has ended, and the initiator gets:

    status   the SCSI status
    sense    96 bytes with CHECK CONDITION, else empty
    data     Data-In as far as it is valid, which may be less than `data_in_length`

    `id` is 0 as long as the command waits for room on the ring.

    cdb: as long as its first byte tells. data_out: until it is copied into the area. iovs: the main buffer's,
    then the bidirectional Data-In's. main: how many are the main buffer's.
    """

    # What most commands begin with lies in the class: making tickets is a good part of small commands' cost.
    id = 0
    iovs: Sequence[Iov] = ()
    main = 0
    kept = False
    status: int | None = None
    sense = b""
    data = b""

    def __init__(self, cdb: bytes, data_out: memoryview, data_in_length: int) -> None:
        self.cdb = cdb
        self.data_out = data_out
        self.data_in_length = data_in_length

    def __repr__(self) -> str:
        return f"<Ticket {self.id}: CDB {self.cdb.hex()}, status {self.status}>"

    def end(self, status: int, sense: bytes = b"") -> None:
        """Answer the initiator."""
        self.status = status
        self.sense = sense
