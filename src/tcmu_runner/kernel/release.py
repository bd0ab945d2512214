"""After the end of a daemon that could not tidy up, and of its guardian: nothing waits for the dead."""

from __future__ import annotations

import logging
from contextlib import closing

from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.guardian import release_waits
from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioDevice, UioEntry, scan

log = logging.getLogger(__name__)


def release(paths: Paths, lock: DaemonLock) -> list[str]:
    """Ends all waits of administrators' commands, and blocks every device that no process serves: its
    initiators retry until a daemon is back. Returns their names. Nothing happens while a daemon has the lock.
    Raises TcmuError or OSError."""
    if not lock.try_acquire():
        return []
    with lock:
        release_waits(paths)
        return [name for entry in scan(paths) if (name := _block(entry, paths))]


def _block(entry: UioEntry, paths: Paths) -> str:
    """Its name; empty when somebody serves it, or it goes away."""
    store = Backstore(entry.name.hba, entry.name.device, paths)
    try:
        with closing(UioDevice.open(entry.minor, paths)):  # it can be open once: nobody writes to its ring
            store.block()
            store.reset_ring(ResetStatus.BUSY)
    except OSError as error:
        log.info("%s", error)
        return ""
    return store.name
