"""The answer to a SCSI command: Data-In, status, sense and residual counts (RFC 7143, 11.4, 11.7)."""

from __future__ import annotations

from tcmu_runner.iscsi import residual
from tcmu_runner.iscsi.pdu import FINAL, NO_LUN, NO_TAG, Opcode, packer
from tcmu_runner.iscsi.pending import Disposition, PendingCommand
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

_GOOD = int(Status.GOOD)
_DATA_IN = int(Opcode.DATA_IN)
_data_in = packer(DataIn)


def answer(
    command: PendingCommand, status: int, sense: bytes = b"", data: bytes = b"", block_size: int = 0
) -> None:
    """Ends a command. data: Data-In as far as it is valid. block_size: of its unit, 0 where there is none."""
    command.finish()
    if status == _GOOD and data and not command.writes:
        _send_data(command, data, block_size)
    else:
        _send_status(command, status, sense, data, block_size)


def answer_aborted(command: PendingCommand, block_size: int) -> None:
    """Tells the initiator of a command that is finished that another initiator has aborted it."""
    if command.disposition is Disposition.TASK_ABORTED:
        _send_status(command, Status.TASK_ABORTED, b"", b"", block_size)
    else:
        command.connection.wake()  # there may be room for commands that were kept


def _send_status(command: PendingCommand, status: int, sense: bytes, data: bytes, block_size: int) -> None:
    connection = command.connection
    out, into = residuals(command, data, block_size)
    sent = 0
    if status == _GOOD and data:
        sent = _send_segments(command, data, list(segments(len(data), connection.parameters)))
    flags, count = into if command.reads and not command.writes else out
    bidi_flags, bidi_count = into if command.reads and command.writes else residual.NONE
    if bidi_flags:
        flags |= BIDI_OVERFLOW if bidi_flags == OVERFLOW else BIDI_UNDERFLOW
    segment = len(sense).to_bytes(2, "big") + sense if (sense := trim(sense)) else b""
    if command.writes and command.gathering is not None:
        sent += command.gathering.r2t_sn
    connection.send(
        ScsiResponse(
            Opcode.SCSI_RESPONSE, FINAL | flags, COMMAND_COMPLETED, status, len(segment), command.pdu.tag,
            *connection.numbers(), sent, bidi_count, count,
        ),
        segment,
    )  # fmt: skip


def residuals(command: PendingCommand, data: bytes, block_size: int) -> tuple[Residual, Residual]:
    """Of Data-Out and of Data-In."""
    demand = residual.demand(command.cdb, block_size) if block_size else None
    out = into = residual.NONE
    if command.writes:
        out = residual.NONE if demand is None else residual.between(command.expected, demand)
    if command.reads:
        into = residual.between(
            command.data_in_expected, len(data) if command.writes else _moved(command, data, demand)
        )
    elif not command.writes and demand is not None:
        out = residual.between(0, demand)
    return out, into


def _moved(command: PendingCommand, data: bytes, demand: int | None) -> int:
    """Bytes of Data-In that the command had to give; its buffer may have cut it short."""
    moved = len(data)
    return demand if demand is not None and (demand > command.expected or moved > demand) else moved


def _send_data(command: PendingCommand, data: bytes, block_size: int) -> None:
    """Data-In with the status of GOOD in the last PDU, which spares a response (11.7.3)."""
    connection, pdu = command.connection, command.pdu
    parameters = connection.parameters
    length = len(data)
    number = 0
    if length > parameters.send_segment or length > parameters.max_burst:
        *before, last = segments(length, parameters)
        number = _send_segments(command, data, before)
        offset = last[0]
    else:
        offset = 0
    demand = residual.demand(command.cdb, block_size) if block_size else None
    moved = length if demand == length else _moved(command, data, demand)
    flags, count = residual.between(command.expected, moved) if moved != command.expected else residual.NONE
    stat_sn, exp_cmd_sn, max_cmd_sn = connection.numbers()
    connection.send_header(
        _data_in(
            _DATA_IN, FINAL | STATUS | flags, _GOOD, length - offset, NO_LUN, pdu.tag, NO_TAG, stat_sn,
            exp_cmd_sn, max_cmd_sn, number, offset, count,
        ),
        data[offset:] if offset else data,
    )  # fmt: skip


def _send_segments(command: PendingCommand, data: bytes, parts: list[tuple[int, int, bool]]) -> int:
    connection, tag = command.connection, command.pdu.tag
    session, view = connection.session, memoryview(data)
    for number, (offset, end, ends_sequence) in enumerate(parts):
        connection.send(
            DataIn(
                Opcode.DATA_IN, FINAL if ends_sequence else 0, 0, end - offset, NO_LUN, tag, NO_TAG, 0,
                session.exp_cmd_sn, session.max_cmd_sn, number, offset, 0,
            ),
            view[offset:end],
        )  # fmt: skip
    return len(parts)


def trim(sense: bytes) -> bytes:
    """Sense data without what a ring's buffer of fixed size adds: byte 7 says how long it is (SPC-5 4.4)."""
    return sense[: 8 + sense[7]] if len(sense) >= 8 else sense
