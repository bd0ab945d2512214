"""SCSI commands on the ring of their unit, from the event that one is complete to its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tcmu_runner.embedded import router
from tcmu_runner.embedded.local import LocalCommand
from tcmu_runner.embedded.session import Session
from tcmu_runner.iscsi.framing import NO_DATA
from tcmu_runner.iscsi.pending import RESULT, PendingCommand
from tcmu_runner.iscsi.scsi_response import answer, answer_aborted
from tcmu_runner.iscsi.transfer import MAX_TRANSFER, NO_ROOM, WRONG_DIRECTION
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import Status
from tcmu_runner.scsi.table import Moves

if TYPE_CHECKING:
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.ring.producer import Ticket
    from tcmu_runner.scsi.command import Nexus
    from tcmu_runner.scsi.sense import Sense

TAKE_DATA = DISK.moving(Moves.WRITE, Moves.DATA_OUT)


class Task(LocalCommand):
    """The ticket of a command. when_ended: called after its end, on the loop's thread, for those that have
    aborted it."""

    when_ended: tuple[Callable[[], None], ...] = ()

    def __init__(self, command: PendingCommand, lun: LocalLun, nexus: Nexus) -> None:
        data_out = NO_DATA if command.gathering is None else memoryview(command.gathering.data)
        super().__init__(command.cdb, data_out, min(command.data_in_expected, MAX_TRANSFER))
        self.command = command
        self.nexus = nexus
        self.block_size = lun.block_size


def unit_of(command: PendingCommand) -> tuple[LocalLun, Nexus] | tuple[None, None]:
    """The unit that a command is for, and the nexus to it, if there is one."""
    session, address = command.connection.session, command.pdu.lun
    assert isinstance(session, Session)
    return session.units.get(address) or session.unit(address)


def start(command: PendingCommand) -> None:
    """Puts a command on the ring of its unit, or answers it where it is not for a unit."""
    lun, nexus = unit_of(command)
    gathering = command.gathering
    failure = None if gathering is None else gathering.failure
    if gathering is None and lun is not None and command.reads and command.cdb[0] in TAKE_DATA:
        failure = WRONG_DIRECTION  # it would write what its buffer has
    if failure is not None:
        _fail(command, failure, 0 if lun is None else lun.block_size)
    elif lun is None or nexus is None:
        answer(command, *router.answer(command))
    else:
        task = Task(command, lun, nexus)
        lun.submit(task)
        if task.status is not None:
            end(task)


def _fail(command: PendingCommand, failure: Sense, block_size: int) -> None:
    if failure is NO_ROOM:
        answer(command, Status.TASK_SET_FULL, block_size=block_size)
    else:
        answer(command, Status.CHECK_CONDITION, failure.encode(), block_size=block_size)


def end(task: Ticket) -> None:
    """Answers a command that its unit has answered."""
    assert isinstance(task, Task)
    assert task.status is not None
    command = task.command
    if command.over:
        return
    if command.disposition is RESULT:
        answer(command, task.status, task.sense, task.data, task.block_size)
        return
    command.finish()
    for follow in task.when_ended:
        follow()
    answer_aborted(command, task.block_size)
