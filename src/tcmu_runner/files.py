"""Files that outlast a process: written atomically, with a durable name, locked by one process at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from tcmu_runner.clock import MACHINE, Clock

LOCK_PAUSE = 0.02  # seconds
ROOT_ONLY = 0o600


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file's text atomically: after a kill or a power loss the file has all of the old text or all
    of the new one. Makes its directory. On stable storage when it returns. Raises OSError.

    One thread of one process at a time may write a file.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    keep_names(path.parent)


def keep_names(directory: Path) -> None:
    """Makes the names of new files in a directory durable: fsync(2) of a file does not promise that; fsync of
    the directory does, on file systems that support it."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock(descriptor: int, kind: int, seconds: float, clock: Clock = MACHINE) -> None:
    """Locks an open file with flock(2) until it is closed. kind: fcntl.LOCK_EX or LOCK_SH. Waits up to
    `seconds` for another holder, then raises BlockingIOError. Any other OSError: the file cannot be
    locked."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > deadline:
                raise
        clock.sleep(LOCK_PAUSE)
