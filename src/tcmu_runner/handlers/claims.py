"""One LUN at a time has a file: locks (flock(2)), and who holds one.

A lock ends with the last process that has the open file, so a dead worker leaves none. But its supervisor
knows of its death by the end of its socket, which may come before the end of its lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from tcmu_runner import files
from tcmu_runner.handler import Device
from tcmu_runner.handler.device import Origin

SECONDS = {Origin.RUNNING: 5.0}  # for the worker before this one to let go; an administrator waits less
NEW_SECONDS = 1.0
UIO = Path("/sys/class/uio")
LOCKS = Path("/proc/locks")


def claim(fd: int, path: Path, device: Device, *, shared: bool) -> None:
    """Locks an open file until it is closed, against all others or, shared, against those that are not.
    Raises OSError, which says which LUN has it."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        files.lock(fd, kind, SECONDS.get(device.origin, NEW_SECONDS))
    except BlockingIOError:
        raise in_use(path, holder(path, device.name)) from None
    except OSError as error:  # a file system without locks
        device.log.info("%s has no lock that keeps other LUNs from it: %s", path, error)


def in_use(path: Path, who: str = "", *, shareable: bool = True) -> OSError:
    """With the way out. who: has it, empty: nobody knows. shareable: there is an option for that."""
    ways = ["remove that one", "name another storage", *(["add ;shared to both"] if shareable else [])]
    return OSError(
        errno.EBUSY,
        f"{path} is in use by {who or 'another LUN or process'}, and two that write to it destroy each "
        f"other's data: {', or '.join(ways)}",
    )


def lun_with(path: Path, own: str) -> str:
    """The LUN of the kernel's, beside the one that asks, whose config string names the file; empty: none."""
    for entry in UIO.glob("*/name"):
        with suppress(OSError, ValueError):
            _, hba, name, config = os.fsdecode(entry.read_bytes().strip()).split("/", 3)
            found = f"user_{hba}/{name}"
            place = config.partition("/")[2].partition(";")[0]
            if found != own and place.startswith("/") and path.samefile(place):
                return found
    return ""


def holder(path: Path, own: str) -> str:
    """The LUN (see lun_with), or else the live process that has a file; empty: neither is known, as when the
    child of a dead process holds what it has inherited."""
    return lun_with(path, own) or _locker(path)


def _locker(path: Path) -> str:
    """The process that has called flock(2) and lives, as proc_locks(5) tells."""
    with suppress(OSError):
        inode = str(path.stat().st_ino)
        for line in LOCKS.read_text().splitlines():
            _, kind, *_, pid, place, _, _ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == inode:
                return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return ""
