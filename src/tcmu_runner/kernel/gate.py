"""Whether a device takes commands, and what becomes of those on its ring."""

from __future__ import annotations

import logging

from tcmu_runner.kernel.configfs import Backstore, ResetStatus, UnsupportedByKernel

log = logging.getLogger(__name__)


class Gate:
    """Methods block, and raise ConfigfsError. What a kernel is too old for is left out, and told."""

    def __init__(self, store: Backstore) -> None:
        self._store = store

    def block(self) -> None:
        """Initiators are told to try again, from the next command on."""
        try:
            self._store.block()
        except UnsupportedByKernel as error:
            log.info("%s; commands under way may fail", error)

    def reset(self) -> None:
        """Initiators are told to try again with what is on the ring. Only while blocked, and while nobody
        touches the ring."""
        try:
            self._store.reset_ring(ResetStatus.BUSY)
        except UnsupportedByKernel as error:
            log.info("%s; commands under way may fail", error)

    def unblock(self) -> None:
        try:
            self._store.unblock()
        except UnsupportedByKernel:
            return  # then it was not blocked either

    def start_over(self) -> None:
        """An empty ring, and no more commands."""
        self.block()
        self.reset()

    def empty(self) -> None:
        """An empty ring: commands that come now wait there."""
        self.start_over()
        self.unblock()
