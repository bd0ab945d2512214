"""The requests of full feature phase, in their turn: those that end here, and events for the others.

A request may be one that another connection of the session has held back: `connection` is its own.
"""

from __future__ import annotations

from typing import NamedTuple

from tcmu_runner.iscsi.framing import Frame
from tcmu_runner.iscsi.outbound import Outbound
from tcmu_runner.iscsi.pdu import DATA_LENGTH, FINAL, IMMEDIATE, NO_LUN, NO_TAG, Opcode
from tcmu_runner.iscsi.pending import MalformedCommandError, PendingCommand, read_cdb
from tcmu_runner.iscsi.requests import (
    CLOSE_CONNECTION,
    CLOSE_SESSION,
    DataOut,
    Logout,
    NopOut,
    NumberedRequest,
    ScsiCommand,
    TaskManagementRequest,
    Text,
)
from tcmu_runner.iscsi.responses import (
    CID_NOT_FOUND,
    LOGGED_OUT,
    R2T,
    RECOVERY_NOT_SUPPORTED,
    FunctionResponse,
    LogoutResponse,
    NopIn,
    Reason,
    TaskManagementResponse,
)
from tcmu_runner.iscsi.text_exchange import TargetsRequested, text_request
from tcmu_runner.iscsi.transfer import DIGEST_ERROR, MAX_TRANSFER, NO_ROOM, UNEXPECTED_DATA, Gathering


class ManagementRequested(NamedTuple):
    """A task management function is to be carried out (11.5), and then to be answered (11.6)."""

    connection: Outbound
    request: TaskManagementRequest

    def answer(self, response: FunctionResponse) -> None:
        connection, pdu = self.connection, self.request
        connection.session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.send(
            TaskManagementResponse(
                Opcode.TASK_MANAGEMENT_RESPONSE, FINAL, response, 0, pdu.tag, *connection.numbers()
            )
        )


Requested = PendingCommand | ManagementRequested | TargetsRequested


def execute(connection: Outbound, pdu: NumberedRequest, frame: Frame) -> Requested | None:
    """A request in its turn: answers it, or returns the event that it is."""
    session = connection.session
    if isinstance(pdu, ScsiCommand) and not session.discovery:
        return _command(connection, pdu, frame)
    if frame.intact and isinstance(pdu, TaskManagementRequest) and not session.discovery:
        return ManagementRequested(connection, pdu)
    session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
    if not frame.intact and not isinstance(pdu, ScsiCommand):
        connection.reject(frame, Reason.DATA_DIGEST_ERROR)  # 7.8
    elif isinstance(pdu, ScsiCommand | TaskManagementRequest):
        connection.reject(frame, Reason.PROTOCOL_ERROR)  # 4.3: not in a discovery session
    elif isinstance(pdu, NopOut):
        _nop(connection, pdu, frame)
    elif isinstance(pdu, Text):
        return text_request(connection, pdu, frame)
    else:
        _logout(connection, pdu)
    return None


# SCSI commands and their data


def _command(connection: Outbound, pdu: ScsiCommand, frame: Frame) -> PendingCommand | None:
    session = connection.session
    try:
        cdb, bidi_expected = read_cdb(pdu, frame.ahs)
    except MalformedCommandError:
        session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.reject(frame, Reason.INVALID_FIELD)
        return None
    if pdu.tag in session.commands:
        session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.reject(frame, Reason.TASK_IN_PROGRESS)
        return None
    session.commands[pdu.tag] = command = PendingCommand(connection, pdu, cdb, bidi_expected)
    if command.writes or pdu.lengths & DATA_LENGTH or not pdu.flags & FINAL:
        return _begin_gathering(command, frame)
    return command if connection.has_room(command) else None


def _begin_gathering(command: PendingCommand, frame: Frame) -> PendingCommand | None:
    connection = command.connection
    wanted = min(command.expected, MAX_TRANSFER) if command.writes else 0
    command.gathering = gathering = Gathering(wanted, connection.parameters)
    if not connection.session.gather(wanted):
        gathering.failure = NO_ROOM
    elif not command.writes:
        gathering.failure = UNEXPECTED_DATA
    elif not frame.intact:
        connection.reject(frame, Reason.DATA_DIGEST_ERROR)
        gathering.failure = DIGEST_ERROR
    gathering.begin(frame.data, final=bool(command.pdu.flags & FINAL) or not command.writes)
    return _go_on(command, gathering)


def data_out(connection: Outbound, pdu: DataOut, frame: Frame) -> PendingCommand | None:
    """Data for a command that waits for it; for one that is gone, or never was, it is dropped (7.4)."""
    if not frame.intact:
        connection.reject(frame, Reason.DATA_DIGEST_ERROR)
    command = connection.session.commands.get(pdu.tag)
    gathering = None if command is None else command.gathering
    if command is None or gathering is None or gathering.complete or command.connection is not connection:
        return None
    gathering.accept(pdu, frame.data, intact=frame.intact)
    return _go_on(command, gathering)


def _go_on(command: PendingCommand, gathering: Gathering) -> PendingCommand | None:
    """The command, if all of its data is here. Else asks for the next, where that does not come unasked."""
    connection = command.connection
    if gathering.complete:
        if gathering.failure is not None or connection.has_room(command):
            return command
        gathering.data = memoryview(bytes(gathering.data))  # the framer's buffer goes on
        return None
    session, number = connection.session, gathering.r2t_sn
    tag = session.transfer_tag()
    asked = gathering.ask(tag)
    if asked is not None:
        connection.send(
            R2T(
                Opcode.R2T, FINAL, 0, command.pdu.lun, command.pdu.tag, tag, connection.stat_sn,
                session.exp_cmd_sn, session.max_cmd_sn, number, *asked,
            )
        )  # fmt: skip
    return None


# Small requests


def _nop(connection: Outbound, pdu: NopOut, frame: Frame) -> None:
    """A ping comes back with its data (11.18); without a tag it is an answer, or only tells ExpStatSN."""
    if pdu.tag == NO_TAG:
        return
    data = bytes(frame.data[: connection.parameters.send_segment])
    numbers = connection.numbers()
    connection.send(NopIn(Opcode.NOP_IN, FINAL, len(data), NO_LUN, pdu.tag, NO_TAG, *numbers), data)


def _logout(connection: Outbound, pdu: Logout) -> None:
    """11.14. Connections that leave are closed; what is under way on them ends when their transport does."""
    reason, present = pdu.flags & 0x7F, connection.session.connections
    leaving: list[Outbound] = []
    if reason == CLOSE_SESSION:
        leaving, answer = [*present.values()], LOGGED_OUT
    elif reason == CLOSE_CONNECTION:
        leaving = [present[pdu.cid]] if pdu.cid in present else []
        answer = LOGGED_OUT if leaving else CID_NOT_FOUND
    else:
        answer = RECOVERY_NOT_SUPPORTED
    numbers = connection.numbers()
    connection.send(LogoutResponse(Opcode.LOGOUT_RESPONSE, FINAL, answer, 0, pdu.tag, *numbers, 0, 0))
    for each in leaving:
        each.logged_out = True
        each.close()
