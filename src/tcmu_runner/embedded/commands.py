"""SCSI Command and Data-Out PDUs: a task begins, gathers its data, runs on its unit's ring, is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.embedded import response, router
from tcmu_runner.embedded.local import MAX_TRANSFER
from tcmu_runner.embedded.task import RESULT, Answer, MalformedCommandError, Task, read_cdb
from tcmu_runner.iscsi.pdu import DATA_LENGTH, FINAL, IMMEDIATE, Opcode
from tcmu_runner.iscsi.requests import DataOut, ScsiCommand
from tcmu_runner.iscsi.responses import R2T, Reason
from tcmu_runner.iscsi.transfer import DIGEST_ERROR, NO_ROOM, UNEXPECTED_DATA, WRONG_DIRECTION, Gathering
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import Status
from tcmu_runner.scsi.table import Moves

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.iscsi.framing import Frame

TAKE_DATA = DISK.moving(Moves.WRITE, Moves.DATA_OUT)


def command(connection: Connection, pdu: ScsiCommand, frame: Frame) -> None:
    """A SCSI Command whose turn it is."""
    session = connection.session
    try:
        cdb, bidi_expected = read_cdb(pdu, frame.ahs)
    except MalformedCommandError:
        session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.reject(frame, Reason.INVALID_FIELD)
        return
    if pdu.tag in session.tasks:
        session.answered(immediate=bool(pdu.opcode & IMMEDIATE))
        connection.reject(frame, Reason.TASK_IN_PROGRESS)
        return
    task = Task(pdu, cdb, bidi_expected, connection, ended)
    session.tasks[pdu.tag] = task
    task.lun, task.nexus = session.units.get(pdu.lun) or session.unit(pdu.lun)
    if task.writes or pdu.lengths & DATA_LENGTH or not pdu.flags & FINAL:
        _begin_gathering(task, frame)
    elif task.reads and task.lun is not None and cdb[0] in TAKE_DATA:  # it would write what its buffer has
        _answer(task, Status.CHECK_CONDITION, WRONG_DIRECTION.encode(), b"")
    else:
        start(task)


def _begin_gathering(task: Task, frame: Frame) -> None:
    wanted = min(task.expected, MAX_TRANSFER) if task.writes else 0
    task.gathering = gathering = Gathering(wanted, task.connection.parameters)
    if not task.connection.session.gather(wanted):
        gathering.failure = NO_ROOM
    elif not task.writes:
        gathering.failure = UNEXPECTED_DATA
    elif not frame.intact:
        task.connection.reject(frame, Reason.DATA_DIGEST_ERROR)
        gathering.failure = DIGEST_ERROR
    gathering.begin(frame.data, final=bool(task.pdu.flags & FINAL) or not task.writes)
    _go_on(task, gathering)


def data_out(connection: Connection, pdu: DataOut, frame: Frame) -> None:
    """Data for a task that waits for it; for one that is gone, or never was, it is dropped (7.4)."""
    if not frame.intact:
        connection.reject(frame, Reason.DATA_DIGEST_ERROR)
    task = connection.session.tasks.get(pdu.tag)
    if task is None or task.gathering is None or task.gathering.complete or task.connection is not connection:
        return
    task.gathering.accept(pdu, frame.data, intact=frame.intact)
    _go_on(task, task.gathering)


def _go_on(task: Task, gathering: Gathering) -> None:
    """Asks for the next data, or starts the task when there is no more."""
    if gathering.complete:
        start(task)
        return
    connection, session = task.connection, task.connection.session
    number = gathering.r2t_sn
    tag = session.transfer_tag()
    asked = gathering.ask(tag)
    if asked is not None:
        connection.send(
            R2T(
                Opcode.R2T, FINAL, 0, task.pdu.lun, task.pdu.tag, tag, connection.stat_sn, session.exp_cmd_sn,
                session.max_cmd_sn, number, *asked,
            )
        )  # fmt: skip


def start(task: Task) -> None:
    """Hands a task to its unit; or keeps it back while too much is on its way to the initiator."""
    gathering = task.gathering
    if gathering is not None and gathering.failure is NO_ROOM:
        _answer(task, Status.TASK_SET_FULL, b"", b"")
    elif gathering is not None and gathering.failure is not None:
        _answer(task, Status.CHECK_CONDITION, gathering.failure.encode(), b"")
    elif task.lun is None:
        _answer(task, *router.answer(task))
    elif task.connection.may_start(task):
        submit(task)
    elif gathering is not None:
        gathering.data = memoryview(bytes(gathering.data))  # the stream's buffer goes on


def submit(task: Task) -> None:
    """Puts a task on the ring of its unit."""
    assert task.lun is not None
    if task.gathering is not None:
        task.data_out = memoryview(task.gathering.data)
    task.submitted = True
    task.lun.submit(task)
    if task.status is not None:
        ended(task)


def ended(task: Task) -> None:
    """The unit has answered."""
    assert task.status is not None
    task.connection.started_ended(task)
    if task.over:
        return
    if task.answer is RESULT:
        _answer(task, task.status, task.sense, task.data)
    else:
        end(task)


def _answer(task: Task, status: int, sense: bytes, data: bytes) -> None:
    finish(task)
    response.send(task, status, sense, data)


def end(task: Task) -> None:
    """A task that was aborted is over."""
    finish(task)
    if task.answer is Answer.TASK_ABORTED:
        response.send(task, Status.TASK_ABORTED, b"", b"")


def finish(task: Task) -> None:
    """The task's tag and its place in the window are free again."""
    session, task.over = task.connection.session, True
    del session.tasks[task.pdu.tag]
    if task.gathering is not None:
        session.gathered(task.gathering.length)
    session.answered(immediate=bool(task.pdu.opcode & IMMEDIATE))
    for follow in task.when_ended:
        follow()
