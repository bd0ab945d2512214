"""iSCSI PDUs: the 48 bytes of each basic header segment, both ways (RFC 7143, 11).

Each PDU is a named tuple whose fields lie in the header in that order, as its row of `_ROWS` says; reserved
bytes are written as zero and not looked at. What every header has:

opcode   0x3f the operation, 0x40 (IMMEDIATE) of a request: to be executed out of order
flags    what each operation needs of its second byte; FINAL is bit 7
lengths  words of additional header segments in the top byte, bytes of data in the other three
lun      8 bytes as SAM has them
tag      the Initiator Task Tag
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from struct import Struct
from typing import NamedTuple, TypeVar

HEADER_LENGTH = 48
IMMEDIATE = 0x40
OPCODE = 0x3F
FINAL = 0x80
CONTINUE = 0x40  # of Login and Text: the text goes on in the next PDU
NO_TAG = 0xFFFFFFFF
NO_LUN = bytes(8)
DATA_LENGTH = 0xFFFFFF  # the bits of `lengths` that count data


class Opcode(IntEnum):
    """RFC 7143, 11.2.1.2; targets' from 0x20."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT = 0x02
    LOGIN = 0x03
    TEXT = 0x04
    DATA_OUT = 0x05
    LOGOUT = 0x06
    SNACK = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    R2T = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F


class ScsiCommand(NamedTuple):
    """11.3. flags: FINAL, READ, WRITE, and the task attribute. cdb: the first 16 bytes."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    expected_length: int
    cmd_sn: int
    exp_stat_sn: int
    cdb: bytes


READ, WRITE, ATTRIBUTE = 0x40, 0x20, 0x07


class ScsiResponse(NamedTuple):
    """11.4. flags: BIDI_OVERFLOW ... UNDERFLOW. exp_data_sn: how many Data-In or R2T PDUs went before."""

    opcode: int
    flags: int
    response: int
    status: int
    lengths: int
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    exp_data_sn: int
    bidi_residual: int
    residual: int


BIDI_OVERFLOW, BIDI_UNDERFLOW, OVERFLOW, UNDERFLOW = 0x10, 0x08, 0x04, 0x02
COMMAND_COMPLETED = 0x00


class TaskManagement(NamedTuple):
    """11.5. flags: FINAL and the function."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    referenced_tag: int
    cmd_sn: int
    exp_stat_sn: int
    ref_cmd_sn: int
    exp_data_sn: int


class Function(IntEnum):
    """Task management functions, 11.5.1."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8


class TaskManagementResponse(NamedTuple):
    """11.6."""

    opcode: int
    flags: int
    response: int
    lengths: int
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int


class FunctionResponse(IntEnum):
    """11.6.1."""

    COMPLETE = 0
    NO_SUCH_TASK = 1
    NO_SUCH_LUN = 2
    STILL_ALLEGIANT = 3
    NO_REASSIGNMENT = 4
    NOT_SUPPORTED = 5
    NOT_AUTHORIZED = 6
    REJECTED = 255


class DataOut(NamedTuple):
    """11.7."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    exp_stat_sn: int
    data_sn: int
    offset: int


class DataIn(NamedTuple):
    """11.7. flags: FINAL, ACKNOWLEDGE, OVERFLOW, UNDERFLOW, STATUS. With STATUS, status and stat_sn count."""

    opcode: int
    flags: int
    status: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    data_sn: int
    offset: int
    residual: int


STATUS = 0x01


class R2T(NamedTuple):
    """11.8. Ready to transfer: asks for `length` bytes of Data-Out from `offset`."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    r2t_sn: int
    offset: int
    length: int


class AsyncMessage(NamedTuple):
    """11.9. Sense data or parameters by `event`."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    event: int
    vendor_code: int
    parameter_1: int
    parameter_2: int
    parameter_3: int


class AsyncEvent(IntEnum):
    """11.9.1."""

    SCSI = 0
    LOGOUT_REQUEST = 1
    CONNECTION_DROPPED = 2
    SESSION_DROPPED = 3
    NEGOTIATION_REQUEST = 4
    TASKS_TERMINATED = 5


class Text(NamedTuple):
    """11.10. flags: FINAL, CONTINUE."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    cmd_sn: int
    exp_stat_sn: int


class TextResponse(NamedTuple):
    """11.11."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int


class Login(NamedTuple):
    """11.12. flags: TRANSIT, CONTINUE, current stage in bits 2 and 3, next stage in bits 0 and 1."""

    opcode: int
    flags: int
    version_max: int
    version_min: int
    lengths: int
    isid: bytes
    tsih: int
    tag: int
    cid: int
    cmd_sn: int
    exp_stat_sn: int


TRANSIT = 0x80


class LoginResponse(NamedTuple):
    """11.13. status: class in the high byte, detail in the low one."""

    opcode: int
    flags: int
    version_max: int
    version_active: int
    lengths: int
    isid: bytes
    tsih: int
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    status: int


class Logout(NamedTuple):
    """11.14. flags: FINAL and the reason."""

    opcode: int
    flags: int
    lengths: int
    tag: int
    cid: int
    cmd_sn: int
    exp_stat_sn: int


CLOSE_SESSION, CLOSE_CONNECTION, REMOVE_FOR_RECOVERY = 0, 1, 2


class LogoutResponse(NamedTuple):
    """11.15. time_to_wait, time_to_retain: seconds."""

    opcode: int
    flags: int
    response: int
    lengths: int
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    time_to_wait: int
    time_to_retain: int


LOGGED_OUT, CID_NOT_FOUND, RECOVERY_NOT_SUPPORTED, CLEANUP_FAILED = 0, 1, 2, 3


class Snack(NamedTuple):
    """11.16."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    exp_stat_sn: int
    begin: int
    run: int


class Reject(NamedTuple):
    """11.17. The rejected header is its data."""

    opcode: int
    flags: int
    reason: int
    lengths: int
    tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    data_sn: int


class Reason(IntEnum):
    """Why a PDU was rejected, 11.17.1."""

    DATA_DIGEST_ERROR = 0x02
    SNACK_REJECT = 0x03
    PROTOCOL_ERROR = 0x04
    COMMAND_NOT_SUPPORTED = 0x05
    TOO_MANY_IMMEDIATE = 0x06
    TASK_IN_PROGRESS = 0x07
    INVALID_DATA_ACK = 0x08
    INVALID_FIELD = 0x09
    LONG_OPERATION = 0x0A
    NEGOTIATION_RESET = 0x0B
    WAITING_FOR_LOGOUT = 0x0C


class NopOut(NamedTuple):
    """11.18."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    cmd_sn: int
    exp_stat_sn: int


class NopIn(NamedTuple):
    """11.19."""

    opcode: int
    flags: int
    lengths: int
    lun: bytes
    tag: int
    transfer_tag: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int


Pdu = (
    ScsiCommand | ScsiResponse | TaskManagement | TaskManagementResponse | DataOut | DataIn | R2T
    | AsyncMessage | Text | TextResponse | Login | LoginResponse | Logout | LogoutResponse | Snack | Reject
    | NopOut | NopIn
)  # fmt: skip
AnyPdu = TypeVar("AnyPdu", bound=Pdu)

_ROWS: dict[Opcode, tuple[type[Pdu], Struct]] = {
    Opcode.NOP_OUT: (NopOut, Struct(">BB2xI8sIIII16x")),
    Opcode.SCSI_COMMAND: (ScsiCommand, Struct(">BB2xI8sIIII16s")),
    Opcode.TASK_MANAGEMENT: (TaskManagement, Struct(">BB2xI8sIIIIII8x")),
    Opcode.LOGIN: (Login, Struct(">BBBBI6sHIH2xII16x")),
    Opcode.TEXT: (Text, Struct(">BB2xI8sIIII16x")),
    Opcode.DATA_OUT: (DataOut, Struct(">BB2xI8sII4xI4xII4x")),
    Opcode.LOGOUT: (Logout, Struct(">BB2xI8xIH2xII16x")),
    Opcode.SNACK: (Snack, Struct(">BB2xI8sII4xI8xII")),
    Opcode.NOP_IN: (NopIn, Struct(">BB2xI8sIIIII12x")),
    Opcode.SCSI_RESPONSE: (ScsiResponse, Struct(">BBBBI8xI4xIIIIII")),
    Opcode.TASK_MANAGEMENT_RESPONSE: (TaskManagementResponse, Struct(">BBBxI8xI4xIII12x")),
    Opcode.LOGIN_RESPONSE: (LoginResponse, Struct(">BBBBI6sHI4xIIIH10x")),
    Opcode.TEXT_RESPONSE: (TextResponse, Struct(">BB2xI8sIIIII12x")),
    Opcode.DATA_IN: (DataIn, Struct(">BBxBI8sIIIIIIII")),
    Opcode.LOGOUT_RESPONSE: (LogoutResponse, Struct(">BBBxI8xI4xIII4xHH4x")),
    Opcode.R2T: (R2T, Struct(">BB2xI8sIIIIIIII")),
    Opcode.ASYNC_MESSAGE: (AsyncMessage, Struct(">BB2xI8sI4xIIIBBHHH4x")),
    Opcode.REJECT: (Reject, Struct(">BBBxI8xI4xIIII8x")),
}
_STRUCTS: dict[type[Pdu], Struct] = dict(_ROWS.values())
# By the opcode's number; an IntEnum member costs more to hash than the rest of the look-up, and `_make` more
# than the tuple.
_BY_OPCODE: dict[int, tuple[Callable[[tuple[object, ...]], Pdu], Callable[..., tuple[object, ...]]]] = {
    int(opcode): (partial(tuple.__new__, cls), layout.unpack) for opcode, (cls, layout) in _ROWS.items()
}


class UnknownOpcodeError(Exception):
    """The opcode is none of RFC 7143."""


def decode(header: bytes | memoryview) -> Pdu:
    """The PDU whose basic header segment these 48 bytes are. Raises UnknownOpcodeError."""
    try:
        make, unpack = _BY_OPCODE[header[0] & OPCODE]
    except KeyError:
        raise UnknownOpcodeError(f"opcode {header[0] & OPCODE:#04x}") from None
    return make(unpack(header))


def encode(pdu: Pdu) -> bytes:
    """The 48 bytes of the basic header segment."""
    return _STRUCTS[type(pdu)].pack(*pdu)


def packer(pdu: type[Pdu]) -> Callable[..., bytes]:
    """Makes the header of one kind of PDU from its fields in order: for those that are sent all the time."""
    return _STRUCTS[pdu].pack


def padding(length: int) -> int:
    """How many bytes follow a segment of so many, to fill its last 4-byte word (11.1)."""
    return -length & 3
