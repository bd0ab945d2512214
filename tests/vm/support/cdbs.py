"""A CDB that succeeds for each row of the opcode table, and what becomes of it when bits are set in it
(docs/reference/cdb-bits.md). The transport is the caller's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.scsi.cdb import Field
from tcmu_runner.scsi.table import Row

BLOCK = 512
CONTENT = bytes(number for number in range(1, 9) for _ in range(BLOCK))  # of the first eight blocks
OTHER = b"\xee" * BLOCK
GOOD, CHECK_CONDITION, CONDITION_MET = 0x00, 0x02, 0x04
KEY = b"reserved"
KEYS = KEY + KEY + bytes(8)  # parameter list of PERSISTENT RESERVE OUT: our key, the service action's key
BLOCK_0 = bytes.fromhex("0016 0010 00000000 0000000000000000 00000001 00000000")  # parameter list of UNMAP
CONTROL_PAGE, D_SENSE_SET = "0a0a0010 00400000 ffff0000", "0a0a0410 00400000 ffff0000"  # SPC-5 7.5.8


@dataclass(frozen=True)
class Answer:
    """How a command ended: SAM status, sense data in fixed format, data-in."""

    status: int
    sense: bytes
    data: bytes


class Send(Protocol):
    """Sends one command to the disk."""

    def __call__(self, cdb: bytes, *, send: bytes = ..., receive: int = ...) -> Answer: ...


@dataclass(frozen=True)
class Case:
    """cdb: in hex. send: data-out. receive: bytes of data-in. good: the command succeeds like this."""

    cdb: str
    send: bytes = b""
    receive: int = 0
    good: bool = True


CASES: Mapping[str, Case] = {
    "TEST UNIT READY": Case("00 00 00 00 00 00"),
    "REQUEST SENSE": Case("03 00 00 00 12 00", receive=18),
    "FORMAT UNIT": Case("04 00 00 00 00 00"),
    "READ(6)": Case("08 00 0000 01 00", receive=BLOCK),
    "WRITE(6)": Case("0a 00 0000 01 00", OTHER),
    "INQUIRY": Case("12 00 00 0024 00", receive=36),
    "MODE SELECT(6)": Case("15 10 00 00 10 00", bytes(4) + bytes.fromhex(D_SENSE_SET)),
    "RESERVE(6)": Case("16 00 00 0000 00"),
    "RELEASE(6)": Case("17 00 00 0000 00"),
    "MODE SENSE(6)": Case("1a 00 3f 00 ff 00", receive=255),
    "START STOP UNIT": Case("1b 00 00 00 01 00"),
    "RECEIVE DIAGNOSTIC RESULTS": Case("1c 00 00 00ff 00", receive=255),
    "SEND DIAGNOSTIC": Case("1d 04 00 0000 00"),
    "PREVENT ALLOW MEDIUM REMOVAL": Case("1e 00 0000 01 00"),
    "READ CAPACITY(10)": Case("25 00 00000000 0000 00 00", receive=8),
    "READ(10)": Case("28 00 00000000 00 0001 00", receive=BLOCK),
    "WRITE(10)": Case("2a 00 00000000 00 0001 00", OTHER),
    "WRITE AND VERIFY(10)": Case("2e 00 00000000 00 0001 00", OTHER),
    "VERIFY(10)": Case("2f 00 00000000 00 0001 00"),
    "PRE-FETCH(10)": Case("34 00 00000000 00 0001 00"),
    "SYNCHRONIZE CACHE(10)": Case("35 00 00000000 00 0001 00"),
    "READ DEFECT DATA(10)": Case("37 00 08 00000000 0008 00", receive=8),
    "WRITE BUFFER": Case("3b 0a 00 000000 000004 00", b"echo"),
    "READ BUFFER(10)": Case("3c 03 00 000000 000004 00", receive=4),
    "WRITE SAME(10)": Case("41 00 00000000 00 0001 00", OTHER),
    "UNMAP": Case("42 00 00000000 00 0018 00", BLOCK_0),
    "SANITIZE: OVERWRITE": Case("48 01 0000000000 0008 00", bytes.fromhex("0100 0004 deadbeef")),
    "SANITIZE: BLOCK ERASE": Case("48 02 0000000000 0000 00"),
    "SANITIZE: CRYPTOGRAPHIC ERASE": Case("48 03 0000000000 0000 00"),
    "SANITIZE: EXIT FAILURE MODE": Case("48 1f 0000000000 0000 00"),
    "LOG SELECT": Case("4c 00 00 00 000000 0000 00"),
    "LOG SENSE": Case("4d 00 40 00 00 0000 00ff 00", receive=255),
    "MODE SELECT(10)": Case("55 10 00 00 000000 0014 00", bytes(8) + bytes.fromhex(D_SENSE_SET)),
    "RESERVE(10)": Case("56 00 00 00 000000 0000 00"),
    "RELEASE(10)": Case("57 00 00 00 000000 0000 00"),
    "MODE SENSE(10)": Case("5a 00 3f 00 000000 00ff 00", receive=255),
    "PERSISTENT RESERVE IN: READ KEYS": Case("5e 00 0000000000 00ff 00", receive=255),
    "PERSISTENT RESERVE IN: READ RESERVATION": Case("5e 01 0000000000 00ff 00", receive=255),
    "PERSISTENT RESERVE IN: REPORT CAPABILITIES": Case("5e 02 0000000000 00ff 00", receive=255),
    "PERSISTENT RESERVE IN: READ FULL STATUS": Case("5e 03 0000000000 00ff 00", receive=255),
    "PERSISTENT RESERVE OUT: REGISTER": Case("5f 00 00 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: RESERVE": Case("5f 01 01 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: RELEASE": Case("5f 02 01 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: CLEAR": Case("5f 03 01 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: PREEMPT": Case("5f 04 01 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: PREEMPT AND ABORT": Case("5f 05 01 0000 00000018 00", KEYS),
    "PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY": Case("5f 06 00 0000 00000018 00", KEYS),
    # to no port that there is
    "PERSISTENT RESERVE OUT: REGISTER AND MOVE": Case("5f 07 01 0000 00000018 00", KEYS, good=False),
    "EXTENDED COPY(LID1)": Case("83 00 0000000000000000 00000000 00 00"),
    # of no copy that there was
    "RECEIVE COPY RESULTS: COPY STATUS(LID1)": Case(
        "84 00 00 00000000000000 00000040 00 00", receive=64, good=False
    ),
    "RECEIVE COPY RESULTS: OPERATING PARAMETERS": Case("84 03 00 00000000000000 00000040 00 00", receive=64),
    "RECEIVE COPY RESULTS: FAILED SEGMENT DETAILS(LID1)": Case(
        "84 04 00 00000000000000 00000040 00 00", receive=64
    ),
    "READ(16)": Case("88 00 0000000000000000 00000001 00 00", receive=BLOCK),
    "COMPARE AND WRITE": Case("89 00 0000000000000000 000000 01 00 00", CONTENT[:BLOCK] + OTHER),
    "WRITE(16)": Case("8a 00 0000000000000000 00000001 00 00", OTHER),
    "ORWRITE(16)": Case("8b 00 0000000000000000 00000001 00 00", OTHER),
    "WRITE AND VERIFY(16)": Case("8e 00 0000000000000000 00000001 00 00", OTHER),
    "VERIFY(16)": Case("8f 00 0000000000000000 00000001 00 00"),
    "PRE-FETCH(16)": Case("90 00 0000000000000000 00000001 00 00"),
    "SYNCHRONIZE CACHE(16)": Case("91 00 0000000000000000 00000001 00 00"),
    "WRITE SAME(16)": Case("93 00 0000000000000000 00000001 00 00", OTHER),
    "WRITE ATOMIC(16)": Case("9c 00 0000000000000000 0000 0001 00 00", OTHER),
    "READ CAPACITY(16)": Case("9e 10 0000000000000000 00000020 00 00", receive=32),
    "GET LBA STATUS(16)": Case("9e 12 0000000000000000 00000018 00 00", receive=24),
    "REPORT LUNS": Case("a0 00 00 000000 00000010 00 00", receive=16),
    "REPORT TARGET PORT GROUPS": Case("a3 0a 00000000 000000ff 00 00", receive=255),
    "REPORT SUPPORTED OPERATION CODES": Case("a3 0c 00 00 0000 00001000 00 00", receive=4096),
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS": Case("a3 0d 00 000000 00000010 00 00", receive=16),
    "SET TARGET PORT GROUPS": Case("a4 0a 00000000 00000000 00 00"),
    "READ(12)": Case("a8 00 00000000 00000001 00 00", receive=BLOCK),
    "WRITE(12)": Case("aa 00 00000000 00000001 00 00", OTHER),
    "WRITE AND VERIFY(12)": Case("ae 00 00000000 00000001 00 00", OTHER),
    "VERIFY(12)": Case("af 00 00000000 00000001 00 00"),
    "READ DEFECT DATA(12)": Case("b7 08 00000000 00000008 00 00", receive=8),
}  # fmt: skip

PLAIN_CONTROL_PAGE = Case("15 10 00 00 10 00", bytes(4) + bytes.fromhex(CONTROL_PAGE))
FILL = Case("8a 00 0000000000000000 00000008 00 00", CONTENT)
REGISTER = CASES["PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY"]
CLEAR = CASES["PERSISTENT RESERVE OUT: CLEAR"]
STATE = (
    Case("88 00 0000000000000000 00000008 00 00", receive=len(CONTENT)),
    Case("1a 00 3f ff ff 00", receive=255),  # all mode pages
    Case("4d 00 50 00 00 0000 00ff 00", receive=255),  # results of self-tests
    CASES["READ CAPACITY(16)"],
    CASES["GET LBA STATUS(16)"],
    CASES["TEST UNIT READY"],
)


class Walk:
    """Through the bits of one row of the table, on a disk of which nothing has to stay."""

    def __init__(self, row: Row, send: Send) -> None:
        self.row = row
        self.case = CASES[row.name]
        self.cdb = bytes.fromhex(self.case.cdb)
        self._send = send

    def check_refused(self) -> None:
        """Each bit of a refused field alone: INVALID FIELD IN CDB, with a pointer (SPC-5 4.4.2.4.2)."""
        self._prepare()
        before = self._state()
        for byte, bit in bits(self.row.refuses, len(self.cdb)):
            answer = self._try(1 << 8 * (len(self.cdb) - 1 - byte) + bit)
            assert answer.status == CHECK_CONDITION, (self.row.name, byte, bit)
            pointer = bytes((0xC8 | bit,)) + byte.to_bytes(2, "big")  # SKSV, C/D, BPV
            found = answer.sense[2] & 0xF, answer.sense[12:14], answer.sense[15:18]
            assert found == (5, b"\x24\x00", pointer), (self.row.name, byte, bit, answer.sense.hex())
        assert self._state() == before, self.row.name

    def check_ignored(self) -> None:
        """Each ignored field with all its bits set: the same status, sense and data as without."""
        self._prepare()
        plain = self._try(0)
        if self.case.good:
            assert plain.status in (GOOD, CONDITION_MET), (self.row.name, plain.sense.hex())
        for field in self.row.ignores:
            self._prepare()
            assert self._try(field.mask(len(self.cdb))) == plain, (self.row.name, field.name)
        self._put_back()

    def try_field(self, field: Field | None = None) -> Answer:
        """The command, with all bits of the field set, on known data."""
        self._send(bytes.fromhex(FILL.cdb), send=FILL.send)
        return self._try(field.mask(len(self.cdb)) if field else 0)

    def _try(self, more: int) -> Answer:
        """The command with these bits, too: of the CDB as one number."""
        cdb = (int.from_bytes(self.cdb, "big") | more).to_bytes(len(self.cdb), "big")
        return self._send(cdb, send=self.case.send, receive=self.case.receive)

    def _prepare(self) -> None:
        self._put_back()
        self._run(FILL)
        if self.row.name.startswith("PERSISTENT RESERVE OUT"):
            self._run(REGISTER)

    def _put_back(self) -> None:
        self._run(PLAIN_CONTROL_PAGE)
        if self.row.name.startswith("PERSISTENT RESERVE OUT"):
            self._run(REGISTER)
            self._run(CLEAR)

    def _run(self, case: Case) -> Answer:
        answer = self._send(bytes.fromhex(case.cdb), send=case.send, receive=case.receive)
        assert answer.status == GOOD, (self.row.name, case.cdb, answer.sense.hex())
        return answer

    def _state(self) -> list[bytes]:
        return [self._run(case).data for case in STATE]


def bits(fields: tuple[Field, ...], length: int) -> Iterator[tuple[int, int]]:
    """(byte, bit) of each bit of the fields in a CDB of that length."""
    for field in fields:
        mask = field.mask(length)
        for at in range(8 * length):
            if mask >> at & 1:
                yield length - 1 - at // 8, at % 8
