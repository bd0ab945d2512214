"""Work of a LUN that no command waits for: FORMAT UNIT and SANITIZE with IMMED, a look at its space."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable

from tcmu_runner.aio import start_thread
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.perform import OperationError, Perform, carry_out
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation, Steps

POLL_SECONDS = 0.005


def _nobody() -> Iterable[Command]:
    return ()


class Background:
    """Runs steps one after the other on a thread that lives as long as there are any, and begins when all
    commands have ended that came before: what one of them writes must not stand on a medium made empty.

    under_way: commands that have come and not ended; asked on any thread.
    """

    def __init__(
        self,
        device: Device,
        perform: Perform,
        under_way: Callable[[], Iterable[Command]] = _nobody,
        clock: Clock = MACHINE,
    ) -> None:
        self._device = device
        self._perform = perform
        self._under_way = under_way
        self._clock = clock
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def spawn(self, steps: Steps) -> None:
        """Runs the steps beside the commands. To be called on one thread."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(start_thread("background", self._run, steps, set(self._under_way())))

    @property
    def idle(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, steps: Steps, before: set[Command]) -> None:
        while not self._stopping and before.intersection(self._under_way()):
            self._clock.sleep(POLL_SECONDS)
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
