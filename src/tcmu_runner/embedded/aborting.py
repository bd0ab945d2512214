"""The end of commands without their result: aborts, resets, sessions that are lost (SAM-5 5.6, 7)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from tcmu_runner.embedded.task import Task, unit_of
from tcmu_runner.iscsi.pending import Disposition, PendingCommand
from tcmu_runner.iscsi.scsi_response import answer_aborted
from tcmu_runner.scsi.opcodes import DISK

if TYPE_CHECKING:
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.ring.layout import TmrType

Done = Callable[[], None]


def nothing() -> None:
    """Nobody waits."""


def abort(commands: Collection[PendingCommand], kind: TmrType, done: Done = nothing) -> None:
    """Ends commands without their result, and calls `done` when the engine has let go of all."""
    units = {each: unit_of(each)[0] for each in commands}
    running = {lun: _running(lun, units) for lun in dict.fromkeys(units.values()) if lun is not None}
    tasks = {task.command: task for found in running.values() for task in found}
    left = len(tasks)

    def one_ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            done()

    for command, unit in units.items():
        if command.disposition is Disposition.RESULT:
            command.disposition = Disposition.NOTHING
        if command in tasks:
            tasks[command].when_ended += (one_ended,)
        else:
            command.finish()
            answer_aborted(command, 0 if unit is None else unit.block_size)
    for lun, found in running.items():
        if found:
            lun.abort(kind, found)
    if not tasks:
        done()


def _running(lun: LocalLun, commands: Collection[PendingCommand]) -> list[Task]:
    tasks = (task for task in lun.in_flight() if isinstance(task, Task))
    return [task for task in tasks if task.command in commands and not _outlives(task.cdb)]


def _outlives(cdb: bytes) -> bool:
    """What it began goes on whatever becomes of the command: nothing waits for its end (SBC-4 4.34, 4.36)."""
    row = DISK.look_up(cdb)
    return row is not None and row.outlives
