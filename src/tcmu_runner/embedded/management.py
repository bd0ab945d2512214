"""Task management: aborts and resets (RFC 7143, 4.2.3, 11.5, 11.6; SAM-5 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tcmu_runner.embedded import commands
from tcmu_runner.embedded.task import Answer
from tcmu_runner.iscsi.pdu import FINAL, IMMEDIATE, Opcode
from tcmu_runner.iscsi.requests import Function, TaskManagement
from tcmu_runner.iscsi.responses import FunctionResponse, TaskManagementResponse
from tcmu_runner.ring.layout import TmrType
from tcmu_runner.scsi.opcodes import DISK

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.embedded.session import Session
    from tcmu_runner.embedded.target import Target
    from tcmu_runner.embedded.task import Task
    from tcmu_runner.scsi.command import Nexus

Done = Callable[[], None]


class RefusedError(Exception):
    """How a function ends that was not carried out."""

    def __init__(self, response: FunctionResponse) -> None:
        super().__init__(response)
        self.response = response


def request(connection: Connection, pdu: TaskManagement) -> None:
    """Carries out a function; it is answered when all tasks concerned have ended."""

    def done(response: FunctionResponse = FunctionResponse.COMPLETE) -> None:
        connection.session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.send(
            TaskManagementResponse(
                Opcode.TASK_MANAGEMENT_RESPONSE, FINAL, response, 0, pdu.tag, *connection.numbers()
            )
        )

    try:
        _carry_out(connection, pdu, done)
    except RefusedError as refused:
        done(refused.response)


def _carry_out(connection: Connection, pdu: TaskManagement, done: Done) -> None:
    session, function = connection.session, pdu.flags & 0x7F
    assert session.target is not None
    if function == Function.ABORT_TASK:
        _abort_one(session, pdu, done)
    elif function == Function.ABORT_TASK_SET:
        lun = _lun(session, pdu)
        abort([task for task in session.tasks.values() if task.lun is lun], TmrType.ABORT_TASK_SET, done)
    elif function == Function.CLEAR_TASK_SET:
        tasks = _tasks(session.target, _lun(session, pdu))
        abort(_as_seen_by(session, tasks), TmrType.CLEAR_TASK_SET, done)
    elif function == Function.LOGICAL_UNIT_RESET:
        _reset(session, session.target, [_lun(session, pdu)], done)
    elif function == Function.TARGET_WARM_RESET:
        _reset(session, session.target, session.target.luns.values(), done)
    elif function == Function.TARGET_COLD_RESET:
        _cold_reset(session, session.target, done)
    elif function == Function.TASK_REASSIGN:
        raise RefusedError(FunctionResponse.NO_REASSIGNMENT)
    else:  # CLEAR ACA: there is never one, INQUIRY says so (NORMACA)
        raise RefusedError(FunctionResponse.NOT_SUPPORTED)


def _lun(session: Session, pdu: TaskManagement) -> LocalLun:
    lun = None if session.target is None else session.target.lun(pdu.lun)
    if lun is None:
        raise RefusedError(FunctionResponse.NO_SUCH_LUN)
    return lun


def _tasks(target: Target, lun: LocalLun) -> list[Task]:
    """All tasks of a unit, of every session."""
    return [
        task for session in target.sessions.values() for task in session.tasks.values() if task.lun is lun
    ]


def _abort_one(session: Session, pdu: TaskManagement, done: Done) -> None:
    task = session.tasks.get(pdu.referenced_tag)
    if task is not None and task.pdu.lun == pdu.lun:
        abort([task], TmrType.ABORT_TASK, done)
    elif task is None and pdu.ref_cmd_sn != pdu.cmd_sn and session.skip(pdu.ref_cmd_sn):
        done()  # 11.6.1: it never came, and shall not be executed when it does
    else:
        raise RefusedError(FunctionResponse.NO_SUCH_TASK)


def _as_seen_by(session: Session, tasks: Iterable[Task]) -> list[Task]:
    """Tasks of other sessions than the one that aborts them end in TASK ABORTED (SAM-5 5.6, TAS is 1)."""
    found = list(tasks)
    for task in found:
        if task.connection.session is not session:
            task.answer = Answer.TASK_ABORTED
    return found


def _outlives(task: Task) -> bool:
    """What it began goes on whatever becomes of the command: nothing waits for its end (SBC-4 4.34, 4.36)."""
    row = DISK.look_up(task.cdb)
    return row is not None and row.outlives


def abort(tasks: list[Task], kind: TmrType, done: Done) -> None:
    """Ends tasks without their result, and calls `done` when the engine has let go of all."""
    running = [task for task in tasks if task.on_ring and not _outlives(task)]
    left = len(running)

    def one_ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            done()

    for task in tasks:
        if task.answer is Answer.RESULT:
            task.answer = Answer.NOTHING
        if task in running:
            task.when_ended = (*task.when_ended, one_ended)
        else:
            task.connection.forget_backlog(task)
            commands.end(task)
    for lun in {task.lun for task in running if task.lun is not None}:
        lun.abort(kind, [task for task in running if task.lun is lun])
    if not running:
        done()


def _reset(session: Session, target: Target, luns: Iterable[LocalLun], done: Done) -> None:
    """SAM-5 6.3.3: all tasks of the units end, and the units are as new."""
    units = list(luns)
    tasks = [task for lun in units for task in _tasks(target, lun)]

    def reset() -> None:
        for lun in units:
            lun.reset()
        done()

    abort(_as_seen_by(session, tasks), TmrType.LUN_RESET, reset)


def _cold_reset(session: Session, target: Target, done: Done) -> None:
    """11.5.1: as if switched off and on; every session ends."""

    def answer_and_end() -> None:
        done()
        for other in [*target.sessions.values()]:
            target.end(other)

    _reset(session, target, target.luns.values(), answer_and_end)


def preempt(target: Target, nexus: Nexus) -> None:
    """Ends the tasks of a nexus that lost its registration (SPC-5 5.13.11.5)."""
    tasks = [
        task for session in target.sessions.values() for task in session.tasks.values() if task.nexus is nexus
    ]
    for task in tasks:
        task.answer = Answer.TASK_ABORTED
    abort(tasks, TmrType.LUN_RESET_PRO, nothing)


def nothing() -> None:
    """Nobody waits."""
