"""PDUs of an initiator, as named tuples (RFC 7143, 11). Their layouts are in `pdu`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


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


class TaskManagementRequest(NamedTuple):
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


NumberedRequest = ScsiCommand | NopOut | TaskManagementRequest | Text | Logout  # those that carry a CmdSN
