"""The LUNs that this process serves, so that EXTENDED COPY can read and write another one."""

from __future__ import annotations

import errno

from tcmu_runner.engine.storage import Perform
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.unit import Unit

_performers: dict[int, Perform] = {}  # by identity: a unit is mutable and has no hash


def enter(unit: Unit, perform: Perform) -> None:
    _performers[id(unit)] = perform


def leave(unit: Unit) -> None:
    _performers.pop(id(unit), None)


def perform_on(unit: Unit, operation: Operation) -> None:
    """Blocks. OSError when the LUN is not served any more."""
    perform = _performers.get(id(unit))
    if perform is None:
        raise OSError(errno.ENODEV, "the other LUN of this copy is not served any more")
    perform(operation)
