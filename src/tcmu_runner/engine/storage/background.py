"""Work of a LUN for which no command waits: FORMAT UNIT and SANITIZE with IMMED, checks of free space."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable

from tcmu_runner.aio import start_thread
from tcmu_runner.engine.storage.perform import OperationError, Perform, carry_out
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation, Steps

POLL_SECONDS = 0.005


def _nobody() -> Iterable[Command]:
    return ()


class Background:
    """Runs each `spawn` on a thread of its own. It begins when all commands that came before have ended:
    their writes must not land on a medium that has been erased.

    under_way: returns the commands that have come and not ended; called on any thread.
    """

    def __init__(
        self, device: Device, perform: Perform, under_way: Callable[[], Iterable[Command]] = _nobody
    ) -> None:
        self._device = device
        self._perform = perform
        self._under_way = under_way
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def spawn(self, steps: Steps) -> None:
        """Runs the steps in the background. Call on one thread only."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(start_thread("background", self._run, steps, set(self._under_way())))

    @property
    def idle(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, steps: Steps, before: set[Command]) -> None:
        while not self._stopping and before.intersection(self._under_way()):
            time.sleep(POLL_SECONDS)
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
        for thread in self._threads:
            thread.join()
