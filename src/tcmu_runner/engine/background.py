"""Work of a LUN that no command waits for: FORMAT UNIT and SANITIZE with IMMED, a look at its space."""

from __future__ import annotations

import errno
import threading

from tcmu_runner.engine.storage import OperationError, Perform, carry_out
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.operations import Operation, Steps


class Background:
    """Runs steps one after the other on a thread that lives as long as there are any."""

    def __init__(self, device: Device, perform: Perform) -> None:
        self._device = device
        self._perform = perform
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def spawn(self, steps: Steps) -> None:
        """Runs the steps beside the commands. To be called on one thread."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._run, args=(steps,), name="background", daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def idle(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, steps: Steps) -> None:
        try:
            carry_out(steps, self._unless_stopping)
        except OperationError as failure:
            self._device.log.error("work in the background failed: %s", failure.error)

    def _unless_stopping(self, operation: Operation) -> None:
        if self._stopping:
            raise OSError(errno.ECANCELED, "the LUN is being closed")
        self._perform(operation)

    def stop(self) -> None:
        """Gives up what is left; returns when the storage is not used any more."""
        self._stopping = True
        for thread in self._threads:
            thread.join()
