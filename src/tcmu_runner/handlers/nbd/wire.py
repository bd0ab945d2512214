"""Numbers and layouts of messages between NBD client and server, by the names of proto.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

PORT = 10809  # IANA
GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
FIXED_NEWSTYLE, NO_ZEROES = 1, 2  # flags of both handshakes

HELLO = Struct(">QQH")  # NBDMAGIC, IHAVEOPT, flags
OPTION = Struct(">QII")  # magic, option, length
OPTION_REPLY = Struct(">QIII")  # magic, option, type, length
REQUEST = Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
SIMPLE_REPLY = Struct(">IIQ")  # magic, error, cookie
CHUNK = Struct(">IHHQI")  # magic, flags, type, cookie, length
CHUNK_DONE = 1


class Option(IntEnum):
    ABORT = 2
    STARTTLS = 5
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """Types of replies; those of errors have bit 31."""

    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_PLATFORM = 0x80000004
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_BLOCK_SIZE_REQD = 0x80000008
    ERR_TOO_BIG = 0x80000009


class Info(IntEnum):
    EXPORT = 0
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8


class Kind(IntEnum):
    """Types of requests."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class RequestFlag(IntFlag):
    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2


class Chunk(IntEnum):
    """Types of structured replies; those of errors have bit 15."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5


CHUNK_ERROR = 1 << 15
UNTOLD = (1, 32 << 20)  # block sizes, minimum and maximum, for servers that do not report them
HOLE, ZERO = 1, 2  # states of base:allocation
CONTEXT = b"base:allocation"
DF_LIMIT = 65536  # bytes that a server must be able to send as one chunk when asked for it (flag DF)


@dataclass(frozen=True, slots=True)
class NbdExport:
    """An export as the server describes it. size: bytes. minimum, maximum: bytes of one request; the maximum
    does not limit TRIM, WRITE_ZEROES and BLOCK_STATUS. context: the id of base:allocation; None: the server
    does not report holes."""

    size: int
    flags: ExportFlag
    minimum: int
    maximum: int
    structured: bool
    context: int | None


class NbdError(Exception):
    """A server does not keep to the protocol, or does not give what was asked for. The text names it."""
