"""The straight path of plain READs and WRITEs: without the generality that costs more than the transfer does.

It does on the ring's thread what unit, plan and executor do together, for a storage that answers at once.
"""

from __future__ import annotations

import time

from tcmu_runner import iov
from tcmu_runner.engine.execution import SMALL
from tcmu_runner.engine.pace import Pace
from tcmu_runner.engine.storage import OperationError
from tcmu_runner.handler.api import Handler
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Read, Write
from tcmu_runner.scsi.plain import plain, undisturbed
from tcmu_runner.scsi.unit import Unit


class StraightPath:
    """For a unit right above its handler. pace: None where the handler is for the ring's thread anyway."""

    def __init__(self, unit: Unit, handler: Handler[object], pace: Pace | None) -> None:
        self._unit = unit
        self._handler = handler
        self._pace = pace

    def open(self, now: float) -> bool:
        """Whether plain commands may go this way, until one that is not plain."""
        return (self._pace is None or self._pace.at_once(now)) and undisturbed(self._unit)

    def offset(self, command: Command) -> int | None:
        """Where in bytes a plain command that is not too large begins; it has its row then. None: it is
        something else. Ring's thread."""
        data = command.data
        length = len(data[0]) if len(data) == 1 else iov.length(data)
        found = plain(self._unit, command.cdb, length)
        if found is None or length > SMALL:
            return None
        command.row, offset = found
        return offset

    def do(self, command: Command, offset: int, pace: Pace | None) -> None:
        """Transfers its data; any thread. Raises OperationError when the storage fails. pace: of the ring's
        thread, when this is it."""
        data, row = command.data, command.row
        assert row is not None
        if command.withdrawn is not None:
            raise OperationError(command.withdrawn, None)
        if pace is not None:
            pace.begin(time.monotonic())
        try:
            if row.writes:
                self._handler.write(data, offset)
            else:
                self._handler.read(data, offset)
        except BaseException as error:
            raise OperationError(error, Write(offset, data) if row.writes else Read(offset, data)) from error
        finally:
            if pace is not None:
                pace.end(time.monotonic(), iov.length(data))
