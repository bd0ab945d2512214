"""Task management functions: aborts and resets (RFC 7143, 4.2.3, 11.5, 11.6; SAM-5 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tcmu_runner.embedded.aborting import Done, abort
from tcmu_runner.iscsi.pending import Disposition
from tcmu_runner.iscsi.requests import Function
from tcmu_runner.iscsi.responses import FunctionResponse
from tcmu_runner.ring.layout import TmrType

if TYPE_CHECKING:
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.embedded.target import Target
    from tcmu_runner.iscsi.inbound import ManagementRequested
    from tcmu_runner.iscsi.pending import PendingCommand
    from tcmu_runner.iscsi.requests import TaskManagementRequest
    from tcmu_runner.iscsi.target_session import TargetSession


class RefusedError(Exception):
    """How a function ends that was not carried out."""

    def __init__(self, response: FunctionResponse) -> None:
        super().__init__(response)
        self.response = response


def request(target: Target, event: ManagementRequested) -> None:
    """Carries out a function; it is answered when all commands concerned have ended."""
    try:
        _carry_out(
            target,
            event.connection.session,
            event.request,
            lambda: event.answer(FunctionResponse.COMPLETE),
        )
    except RefusedError as refused:
        event.answer(refused.response)


def _carry_out(target: Target, session: TargetSession, pdu: TaskManagementRequest, done: Done) -> None:
    function = pdu.flags & 0x7F
    if function == Function.ABORT_TASK:
        _abort_one(session, pdu, done)
    elif function == Function.ABORT_TASK_SET:
        commands = target.commands(_lun(target, pdu))
        abort([each for each in commands if each.connection.session is session], TmrType.ABORT_TASK_SET, done)
    elif function == Function.CLEAR_TASK_SET:
        commands = target.commands(_lun(target, pdu))
        abort(_as_seen_by(session, commands), TmrType.CLEAR_TASK_SET, done)
    elif function == Function.LOGICAL_UNIT_RESET:
        _reset(session, target, [_lun(target, pdu)], done)
    elif function == Function.TARGET_WARM_RESET:
        _reset(session, target, target.luns.values(), done)
    elif function == Function.TARGET_COLD_RESET:
        _cold_reset(session, target, done)
    elif function == Function.TASK_REASSIGN:
        raise RefusedError(FunctionResponse.NO_REASSIGNMENT)
    else:  # CLEAR ACA: there is never one, INQUIRY says so (NORMACA)
        raise RefusedError(FunctionResponse.NOT_SUPPORTED)


def _lun(target: Target, pdu: TaskManagementRequest) -> LocalLun:
    lun = target.lun(pdu.lun)
    if lun is None:
        raise RefusedError(FunctionResponse.NO_SUCH_LUN)
    return lun


def _abort_one(session: TargetSession, pdu: TaskManagementRequest, done: Done) -> None:
    command = session.commands.get(pdu.referenced_tag)
    if command is not None and command.pdu.lun == pdu.lun:
        abort([command], TmrType.ABORT_TASK, done)
    elif command is None and pdu.ref_cmd_sn != pdu.cmd_sn and session.skip(pdu.ref_cmd_sn):
        done()  # 11.6.1: it never came, and is not executed when it does
    else:
        raise RefusedError(FunctionResponse.NO_SUCH_TASK)


def _as_seen_by(session: TargetSession, commands: list[PendingCommand]) -> list[PendingCommand]:
    """Commands of other sessions than the one that aborts them end in TASK ABORTED (SAM-5 5.6, TAS is 1)."""
    for command in commands:
        if command.connection.session is not session:
            command.disposition = Disposition.TASK_ABORTED
    return commands


def _reset(session: TargetSession, target: Target, luns: Iterable[LocalLun], done: Done) -> None:
    """SAM-5 6.3.3: all commands to the units end, and the units are as new."""
    units = list(luns)
    commands = [command for lun in units for command in target.commands(lun)]

    def reset() -> None:
        for lun in units:
            lun.reset()
        done()

    abort(_as_seen_by(session, commands), TmrType.LUN_RESET, reset)


def _cold_reset(session: TargetSession, target: Target, done: Done) -> None:
    """11.5.1: as if switched off and on; every session ends."""

    def answer_and_end() -> None:
        done()
        for other in [*target.sessions.values()]:
            target.end(other)

    _reset(session, target, target.luns.values(), answer_and_end)
