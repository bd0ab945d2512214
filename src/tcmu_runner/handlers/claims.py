"""Locks (flock(2)), so that one LUN at a time has a file, and the search for the present owner.

A lock ends with the last process that has the open file, so a dead worker leaves none. But the supervisor
learns of a death when the socket closes, which may come before the kernel releases the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from tcmu_runner import files
from tcmu_runner.handler import Device
from tcmu_runner.handler.device import Origin

SECONDS = {Origin.RUNNING: 5.0}  # to wait for the last worker's lock; an administrator's `enable` waits less
NEW_SECONDS = 1.0
UIO = Path("/sys/class/uio")
LOCKS = Path("/proc/locks")


def claim(fd: int, path: Path, device: Device, *, shared: bool) -> None:
    """Locks an open file until it is closed, against all others or, with `shared`, against those without it.
    Does not lock a block device: udev skips locked ones. Raises OSError; its text names the LUN that has the
    file."""
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        return
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        files.lock(fd, kind, SECONDS.get(device.origin, NEW_SECONDS), device.clock)
    except BlockingIOError:
        raise in_use(path, holder(path, device.name)) from None
    except OSError as error:  # a file system without flock
        device.log.info("%s has no lock that keeps other LUNs from it: %s", path, error)


def in_use(path: Path, owner: str = "", *, shareable: bool = True) -> OSError:
    """The error, with the way out. owner: empty: unknown. shareable: there is an option `shared`."""
    ways = ["remove that one", "name another storage", *(["add ;shared to both"] if shareable else [])]
    return OSError(
        errno.EBUSY,
        f"{path} is in use by {owner or 'another LUN or process'}, and two that write to it destroy each "
        f"other's data: {', or '.join(ways)}",
    )


def lun_with(path: Path, own: str) -> str:
    """Another LUN of the kernel with this file in its config string; empty: none. own: the caller's name."""
    for entry in UIO.glob("*/name"):
        with suppress(OSError, ValueError):
            _, hba, name, config = os.fsdecode(entry.read_bytes().strip()).split("/", 3)
            found = f"user_{hba}/{name}"
            place = config.partition("/")[2].partition(";")[0]
            if found != own and place.startswith("/") and path.samefile(place):
                return found
    return ""


def holder(path: Path, own: str) -> str:
    """The LUN (see lun_with) or else the live process that has the file; empty if unknown, as when a child of
    a dead process has inherited the descriptor."""
    return lun_with(path, own) or _locker(path)


def _locker(path: Path) -> str:
    """The live process that called flock(2), from /proc/locks; empty: none."""
    with suppress(OSError):
        inode = str(path.stat().st_ino)
        for line in LOCKS.read_text().splitlines():
            _, kind, *_, pid, place, _, _ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == inode:
                return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return ""
