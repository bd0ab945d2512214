"""The LUNs that this process serves, so that EXTENDED COPY can read and write another one."""

from __future__ import annotations

import errno
import time

from tcmu_runner import iov
from tcmu_runner.engine.ledger import Ledger
from tcmu_runner.engine.storage import Perform
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Operation, Read, Write
from tcmu_runner.scsi.sense import COPY_TARGET_NOT_REACHABLE, ScsiError
from tcmu_runner.scsi.unit import Unit

READ_16, WRITE_16 = b"\x88\0", b"\x8a\0"

_performers: dict[int, Perform] = {}  # by identity: a unit is mutable and has no hash


def enter(unit: Unit, perform: Perform, ledger: Ledger) -> None:
    """For the unit, what comes from others is as one of its own commands."""

    def perform_for_others(operation: Operation) -> None:
        assert isinstance(operation, Read | Write)
        with ledger.visit(_as_command(unit, operation)):
            if not unit.medium.ready:  # it was when the copy began
                raise ScsiError(COPY_TARGET_NOT_REACHABLE)
            perform(operation)

    _performers[id(unit)] = perform_for_others


def _as_command(unit: Unit, operation: Read | Write) -> Command:
    """Which blocks it is about, the READ(16) or WRITE(16) would say."""
    reads = isinstance(operation, Read)
    length = iov.length(operation.into if isinstance(operation, Read) else operation.data)
    lba, blocks = operation.offset // unit.block_size, length // unit.block_size
    cdb = (READ_16 if reads else WRITE_16) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
    command = Command(cdb, [], Nexus())
    command.row, command.began = unit.table.find(cdb, unit), time.monotonic()
    return command


def leave(unit: Unit) -> None:
    _performers.pop(id(unit), None)


def perform_on(unit: Unit, operation: Operation) -> None:
    """Blocks. OSError when the LUN is not served any more."""
    perform = _performers.get(id(unit))
    if perform is None:
        raise OSError(errno.ENODEV, "the other LUN of this copy is not served any more")
    perform(operation)
