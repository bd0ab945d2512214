"""The answer to a SCSI command: Data-In, status, sense and residual counts (RFC 7143, 11.4, 11.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.iscsi import residual
from tcmu_runner.iscsi.pdu import FINAL, NO_LUN, NO_TAG, Opcode, packer
from tcmu_runner.iscsi.residual import Residual
from tcmu_runner.iscsi.responses import (
    BIDI_OVERFLOW,
    BIDI_UNDERFLOW,
    COMMAND_COMPLETED,
    OVERFLOW,
    STATUS,
    DataIn,
    ScsiResponse,
)
from tcmu_runner.iscsi.transfer import segments
from tcmu_runner.scsi.sense import Status

if TYPE_CHECKING:
    from tcmu_runner.embedded.task import Task

_GOOD = int(Status.GOOD)
_DATA_IN = int(Opcode.DATA_IN)
_data_in = packer(DataIn)


def send(task: Task, status: int, sense: bytes, data: bytes) -> None:
    """Queues the answer to a task. data: Data-In as far as it is valid."""
    connection, pdu = task.connection, task.pdu
    if connection.closing:
        return
    if status == _GOOD and data and not task.writes:
        _send_data(task, data)
        return
    out, into = residuals(task, data)
    sent = 0
    if status == _GOOD and data:
        sent = _send_data_only(task, data)
    flags, count = into if task.reads and not task.writes else out
    bidi_flags, bidi_count = into if task.reads and task.writes else residual.NONE
    if bidi_flags:
        flags |= BIDI_OVERFLOW if bidi_flags == OVERFLOW else BIDI_UNDERFLOW
    segment = len(sense).to_bytes(2, "big") + sense if (sense := trim(sense)) else b""
    if task.writes and task.gathering is not None:
        sent += task.gathering.r2t_sn
    connection.send(
        ScsiResponse(
            Opcode.SCSI_RESPONSE, FINAL | flags, COMMAND_COMPLETED, status, len(segment), pdu.tag,
            *connection.numbers(), sent, bidi_count, count,
        ),
        segment,
    )  # fmt: skip


def residuals(task: Task, data: bytes) -> tuple[Residual, Residual]:
    """Of Data-Out and of Data-In."""
    demand = None if task.lun is None else residual.demand(task.cdb, task.lun.block_size)
    out = into = residual.NONE
    if task.writes:
        out = residual.NONE if demand is None else residual.between(task.expected, demand)
    if task.reads:
        into = residual.between(
            task.data_in_expected, len(data) if task.writes else _moved(task, data, demand)
        )
    elif not task.writes and demand is not None:
        out = residual.between(0, demand)
    return out, into


def _moved(task: Task, data: bytes, demand: int | None) -> int:
    """Bytes of Data-In that the command had to give; its buffer may have cut it short."""
    moved = len(data)
    return demand if demand is not None and (demand > task.expected or moved > demand) else moved


def _send_data(task: Task, data: bytes) -> None:
    """Data-In with the status of GOOD in the last PDU, which spares a response (11.7.3)."""
    connection, pdu = task.connection, task.pdu
    parameters = connection.parameters
    length = len(data)
    number = 0
    if length > parameters.send_segment or length > parameters.max_burst:
        *before, last = segments(length, parameters)
        number = _send_segments(task, data, before)
        offset = last[0]
    else:
        offset = 0
    lun = task.lun
    demand = None if lun is None else residual.demand(task.cdb, lun.block_size)
    moved = length if demand == length else _moved(task, data, demand)
    flags, count = residual.between(task.expected, moved) if moved != task.expected else residual.NONE
    stat_sn, exp_cmd_sn, max_cmd_sn = connection.numbers()
    connection.send_header(
        _data_in(
            _DATA_IN, FINAL | STATUS | flags, _GOOD, length - offset, NO_LUN, pdu.tag, NO_TAG, stat_sn,
            exp_cmd_sn, max_cmd_sn, number, offset, count,
        ),
        data[offset:] if offset else data,
    )  # fmt: skip


def _send_data_only(task: Task, data: bytes) -> int:
    """Data-In of a command whose status comes by itself; the number of PDUs."""
    return _send_segments(task, data, list(segments(len(data), task.connection.parameters)))


def _send_segments(task: Task, data: bytes, parts: list[tuple[int, int, bool]]) -> int:
    connection, session = task.connection, task.connection.session
    view = memoryview(data)
    for number, (offset, end, ends_sequence) in enumerate(parts):
        connection.send(
            DataIn(
                Opcode.DATA_IN, FINAL if ends_sequence else 0, 0, end - offset, NO_LUN, task.pdu.tag, NO_TAG,
                0, session.exp_cmd_sn, session.max_cmd_sn, number, offset, 0,
            ),
            view[offset:end],
        )  # fmt: skip
    return len(parts)


def trim(sense: bytes) -> bytes:
    """Sense data without what a ring's buffer of fixed size adds: byte 7 says how long it is (SPC-5 4.4)."""
    return sense[: 8 + sense[7]] if len(sense) >= 8 else sense
