"""Work on a LUN's storage for which none of its commands waits: FORMAT UNIT and SANITIZE with IMMED, checks
of free space, and operations of EXTENDED COPY by other LUNs of this process."""

from __future__ import annotations

import errno
import threading

from tcmu_runner import iov
from tcmu_runner.aio import start_thread
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.serve.inflight import InFlight
from tcmu_runner.engine.storage.perform import OperationError, Perform, carry_out
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import Operation, Read, Steps, Write
from tcmu_runner.scsi.sense import COPY_TARGET_NOT_REACHABLE, ScsiError
from tcmu_runner.scsi.unit import Unit


class Background:
    """Runs each `spawn` on a thread of its own. It begins when all commands that came before have ended:
    their writes must not land on a medium that has been erased.

    in_flight: of the LUN; None: work that waits for no command.
    """

    def __init__(self, device: Device, perform: Perform, in_flight: InFlight | None = None) -> None:
        self._device = device
        self._perform = perform
        self._in_flight = in_flight
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def spawn(self, steps: Steps) -> None:
        """Runs the steps in the background. Call on one thread only."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(start_thread("background", self._run, steps, self._under_way()))

    def _under_way(self) -> set[Command]:
        return set(self._in_flight.waiting()) if self._in_flight is not None else set()

    @property
    def idle(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, steps: Steps, before: set[Command]) -> None:
        if self._in_flight is not None:
            self._in_flight.wait_for(lambda: self._stopping or not before & self._under_way())
        try:
            carry_out(steps, self._unless_stopping)
        except OperationError as failure:
            self._device.log.error("work in the background failed: %s", failure.error)

    def _unless_stopping(self, operation: Operation) -> None:
        if self._stopping:
            raise OSError(errno.ECANCELED, "the LUN is being closed")
        self._perform(operation)

    def stop(self) -> None:
        """Gives up the remaining steps; returns when no thread uses the storage."""
        self._stopping = True
        if self._in_flight is not None:
            self._in_flight.stir()
        for thread in self._threads:
            thread.join()


_performers: dict[int, Perform] = {}  # by id(unit): a unit is mutable and has no hash


def take_copies(unit: Unit, perform: Perform, in_flight: InFlight, clock: Clock = MACHINE) -> None:
    """Registers a unit. Operations from copies of other LUNs then count as commands of this unit."""

    def perform_for_others(operation: Operation) -> None:
        assert isinstance(operation, Read | Write)
        with in_flight.visit(_as_command(unit, operation, clock.monotonic())):
            if not unit.medium.ready:  # it has stopped since the copy began
                raise ScsiError(COPY_TARGET_NOT_REACHABLE)
            perform(operation)

    _performers[id(unit)] = perform_for_others


def _as_command(unit: Unit, operation: Read | Write, now: float) -> Command:
    """The READ(16) or WRITE(16) of the same blocks."""
    row = unit.table.row("READ(16)" if isinstance(operation, Read) else "WRITE(16)")
    length = iov.length(operation.into if isinstance(operation, Read) else operation.data)
    lba, blocks = operation.offset // unit.block_size, length // unit.block_size
    command = Command(row.cdb(lba, blocks), [], Nexus())
    command.row, command.began = row, now
    return command


def refuse_copies(unit: Unit) -> None:
    """Removes a unit: copies of other LUNs then fail to reach it."""
    _performers.pop(id(unit), None)


def perform_on(unit: Unit, operation: Operation) -> None:
    """Performs an operation on another unit. Blocks. OSError when that LUN is not served."""
    perform = _performers.get(id(unit))
    if perform is None:
        raise OSError(errno.ENODEV, "the other LUN of this copy is not served any more")
    perform(operation)
