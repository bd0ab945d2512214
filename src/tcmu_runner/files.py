"""Files that outlast a process: written whole, with a name that stays, locked by one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

LOCK_PAUSE = 0.02  # seconds
ROOT_ONLY = 0o600


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Puts a text into a file, which may have an older one: after a kill or a loss of power it has all of the
    one or all of the other. Makes its directory. On stable storage when it returns. Raises OSError.

    One thread at a time, in one process, writes one file.
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
    """Of the files that were made in it. fsync(2) of a file does not promise to keep its name; that of the
    directory does, on file systems that have it."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock(descriptor: int, kind: int, seconds: float) -> None:
    """Locks an open file until it is closed, by flock(2). kind: fcntl.LOCK_EX or LOCK_SH. Waits for another
    one's lock up to `seconds`, then raises BlockingIOError; any other OSError: it cannot be locked."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOCK_PAUSE)
