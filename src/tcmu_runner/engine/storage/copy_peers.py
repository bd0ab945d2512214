"""The LUNs that this process serves, by which EXTENDED COPY reads and writes another one."""

from __future__ import annotations

import errno
import time

from tcmu_runner import iov
from tcmu_runner.engine.serve.inflight import InFlight
from tcmu_runner.engine.storage.perform import Perform
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Operation, Read, Write
from tcmu_runner.scsi.sense import COPY_TARGET_NOT_REACHABLE, ScsiError
from tcmu_runner.scsi.unit import Unit

_performers: dict[int, Perform] = {}  # by id(unit): a unit is mutable and has no hash


def enter(unit: Unit, perform: Perform, in_flight: InFlight) -> None:
    """Registers a unit. Operations from copies of other LUNs then count as commands of this unit."""

    def perform_for_others(operation: Operation) -> None:
        assert isinstance(operation, Read | Write)
        with in_flight.visit(_as_command(unit, operation)):
            if not unit.medium.ready:  # it has stopped since the copy began
                raise ScsiError(COPY_TARGET_NOT_REACHABLE)
            perform(operation)

    _performers[id(unit)] = perform_for_others


def _as_command(unit: Unit, operation: Read | Write) -> Command:
    """The READ(16) or WRITE(16) of the same blocks."""
    row = unit.table.row("READ(16)" if isinstance(operation, Read) else "WRITE(16)")
    length = iov.length(operation.into if isinstance(operation, Read) else operation.data)
    lba, blocks = operation.offset // unit.block_size, length // unit.block_size
    command = Command(row.cdb(lba, blocks), [], Nexus())
    command.row, command.began = row, time.monotonic()
    return command


def leave(unit: Unit) -> None:
    _performers.pop(id(unit), None)


def perform_on(unit: Unit, operation: Operation) -> None:
    """Performs an operation on another unit. Blocks. OSError when that LUN is not served."""
    perform = _performers.get(id(unit))
    if perform is None:
        raise OSError(errno.ENODEV, "the other LUN of this copy is not served any more")
    perform(operation)
