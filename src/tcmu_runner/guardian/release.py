"""When daemon and guardian are both dead: ends the kernel's waits for them."""

from __future__ import annotations

import logging
from contextlib import closing

from tcmu_runner.guardian.process import release_waits
from tcmu_runner.guardian.unlinking import answer_all
from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioDevice, UioEntry, scan
from tcmu_runner.lock import DaemonLock

log = logging.getLogger(__name__)


def release(paths: Paths, lock: DaemonLock, *, by_hand: bool) -> list[str]:
    """Ends all waits of administrators' commands, also of those that unlink a LUN, and blocks every device
    that no process serves: its initiators retry until a daemon runs. Returns the blocked devices' names. Does
    nothing while a daemon has the lock. by_hand: an administrator asked for it. Raises TcmuError or
    OSError."""
    if not lock.try_acquire():
        return []
    with lock:
        release_waits(paths)
        blocked = [name for entry in scan(paths) if (name := _block(entry, paths))]
    answer_all(paths, lock, even_shared=by_hand)
    return blocked


def _block(entry: UioEntry, paths: Paths) -> str:
    """The device's name; empty when a process serves it, or it is being removed."""
    store = Backstore(entry.name.hba, entry.name.device, paths)
    try:
        with closing(UioDevice.open(entry.minor, paths)):  # the only opener: no process writes the ring
            store.block()
            store.reset_ring(ResetStatus.BUSY)
    except OSError as error:
        log.info("%s", error)
        return ""
    return store.name
