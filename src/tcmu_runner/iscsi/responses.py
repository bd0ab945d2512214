"""PDUs of a target, as named tuples (RFC 7143, 11). Their layouts are in `pdu`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


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
