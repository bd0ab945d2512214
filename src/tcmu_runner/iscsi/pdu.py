"""iSCSI PDUs: the 48 bytes of each basic header segment, both ways (RFC 7143, 11).

Each PDU is a named tuple; its fields lie in the header in that order, as its row of `_ROWS` says; reserved
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
from typing import TypeVar

from tcmu_runner.iscsi.requests import (
    DataOut,
    Login,
    Logout,
    NopOut,
    ScsiCommand,
    Snack,
    TaskManagementRequest,
    Text,
)
from tcmu_runner.iscsi.responses import (
    R2T,
    AsyncMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NopIn,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)

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


Pdu = (
    ScsiCommand | ScsiResponse | TaskManagementRequest | TaskManagementResponse | DataOut | DataIn | R2T
    | AsyncMessage | Text | TextResponse | Login | LoginResponse | Logout | LogoutResponse | Snack | Reject
    | NopOut | NopIn
)  # fmt: skip
AnyPdu = TypeVar("AnyPdu", bound=Pdu)

_ROWS: dict[Opcode, tuple[type[Pdu], Struct]] = {
    Opcode.NOP_OUT: (NopOut, Struct(">BB2xI8sIIII16x")),
    Opcode.SCSI_COMMAND: (ScsiCommand, Struct(">BB2xI8sIIII16s")),
    Opcode.TASK_MANAGEMENT: (TaskManagementRequest, Struct(">BB2xI8sIIIIII8x")),
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
    """The PDU that has these 48 bytes as its basic header segment. Raises UnknownOpcodeError."""
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
