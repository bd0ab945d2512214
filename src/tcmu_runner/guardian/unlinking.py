"""Ends the wait of `rm` for LUNs that are unlinked while no daemon serves them.

tcm_loop removes the disk while `rm` of the LUN's link waits, and sd then sends SYNCHRONIZE CACHE. A device
without a daemon is blocked and answers BUSY, so Linux repeats that command for 18 minutes (sd_sync_cache:
three times, each (5 retries + 1) x twice the disk's timeout). After NOT READY it gives up at the third try.

While `rm` waits, the kernel holds the lock of the directory lun_N: listing that directory sleeps, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioDevice, UioEntry, scan
from tcmu_runner.lock import DaemonLock

UNLINK = "tcm_loop_port_unlink"  # in the waiting process's kernel stack (drivers/target/loopback)
GRACE_SECONDS = 30.0  # a daemon may be restarted or upgraded: until then initiators are kept waiting
LOOK_SECONDS = 2.0  # between looks for unlinkings
ANSWER_SECONDS = 0.25
ANSWERS = 32  # 8 s in all: a daemon that starts waits 10 s for the lock that we hold meanwhile

log = logging.getLogger(__name__)


def sleepers(function: str, proc: Path) -> list[str]:
    """The processes that sleep in this kernel function, as "rm (123)". Empty unless we are root."""
    found = []
    for stack in sysfs.find(proc, "[0-9]*/stack"):
        with suppress(OSError):  # it has ended, or we are not root
            if function in stack.read_text():
                found.append(f"{(stack.parent / 'comm').read_text().strip()} ({stack.parent.name})")
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Unlinking:
    """A device with a LUN that is being unlinked. shared: another of its exports is a disk that may be in
    use."""

    entry: UioEntry
    shared: bool

    @property
    def name(self) -> str:
        """user_0/vol0"""
        return f"user_{self.entry.name.hba}/{self.entry.name.device}"


def unlinking(paths: Paths) -> list[Unlinking]:
    """Devices with a LUN that is still linked but has no tcm_loop disk left, while a process waits in
    UNLINK."""
    found = [each for entry in scan(paths) if (each := _half_removed(entry, paths)) is not None]
    return found if found and sleepers(UNLINK, paths.proc) else []


def _half_removed(entry: UioEntry, paths: Paths) -> Unlinking | None:
    present = [_has_disk(member, paths) for member in _members(entry, paths)]
    return Unlinking(entry, any(present)) if not all(present) else None


def _members(entry: UioEntry, paths: Paths) -> Iterator[str]:
    """The device's LUNs as loopback/naa.50014051/tpgt_1/lun_0. Does not read their directories."""
    store = paths.target / "core" / f"user_{entry.name.hba}" / entry.name.device
    for group in sysfs.find(store / "alua", "*/members"):
        with suppress(OSError):
            yield from sysfs.read(group).replace("\0", "").split()  # the kernel ends each with a NUL


def _has_disk(member: str, paths: Paths) -> bool:
    """True for LUNs of other fabrics: unlinking those does not wait for the initiator."""
    fabric, target, group, lun = member.split("/")
    if fabric != "loopback":
        return True
    try:
        address = sysfs.read(paths.target / fabric / target / group / "address")
    except OSError:
        return True
    return (paths.scsi / f"{address}:{lun.removeprefix('lun_')}").exists()


def answer(found: Unlinking, paths: Paths, clock: Clock) -> None:
    """Ends the wait for one device; another of its exports may get an I/O error meanwhile. The caller holds
    the daemon's lock. Blocks for up to 8 s. Raises OSError: a process serves the device, or it is gone."""
    store = Backstore(found.entry.name.hba, found.entry.name.device, paths)
    with closing(UioDevice.open(found.entry.minor, paths)):  # the only opener: no other writes the ring
        try:
            store.unblock()
            for _ in range(ANSWERS):
                store.reset_ring(ResetStatus.NOT_READY)
                clock.sleep(ANSWER_SECONDS)
                if all(each.entry != found.entry for each in unlinking(paths)):
                    log.warning("%s: unlinked without a daemon: its last flush ended NOT READY", found.name)
                    return
            log.error("%s: still being unlinked: gave up after %d answers", found.name, ANSWERS)
        finally:
            with suppress(OSError):  # the device was removed right after its LUN
                store.block()
                store.reset_ring(ResetStatus.BUSY)


def answer_all(paths: Paths, lock: DaemonLock, *, even_shared: bool, clock: Clock = MACHINE) -> None:
    """Ends the waits that there are now. Does nothing while a daemon has the lock. even_shared: also where
    another export of the device may get an I/O error."""
    if not lock.try_acquire():
        return
    with lock:
        for found in unlinking(paths):
            if found.shared and not even_shared:
                continue
            try:
                answer(found, paths, clock)
            except OSError as error:
                log.info("%s", error)


def stay(paths: Paths, lock: Callable[[], DaemonLock], daemon: int = 0, clock: Clock = MACHINE) -> None:
    """Ends the wait of each unlinking that has lasted GRACE_SECONDS. Returns once another daemon runs or
    there are no devices. daemon: the process id in the lock of the daemon that has ended; 0: our own."""
    since: dict[UioEntry, float] = {}
    while scan(paths) and not lock().is_anothers(daemon or os.getpid()):
        waiting = [each.entry for each in unlinking(paths) if not each.shared]
        since = {entry: since.get(entry, clock.monotonic()) for entry in waiting}
        if any(clock.monotonic() - began >= GRACE_SECONDS for began in since.values()):
            answer_all(paths, lock(), even_shared=False, clock=clock)
        clock.sleep(LOOK_SECONDS)
