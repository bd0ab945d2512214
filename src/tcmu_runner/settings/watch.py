"""Reports changes of files: inotify(7) on their directories, since editors rename a new file to the old
name."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

# linux/inotify.h
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_GONE = 0x400 | 0x800  # IN_DELETE_SELF, IN_MOVE_SELF
_EVENTS = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _GONE
_BUFFER = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """A descriptor that is readable after an event in a file's directory or, while that is missing, in the
    nearest one above it."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Raises OSError: the system has no watch left (fs.inotify.max_user_instances)."""
        self._directories = {file.parent for file in files}
        self._descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(code := ctypes.get_errno(), os.strerror(code), "inotify")
        self._arm()

    def fileno(self) -> int:
        return self._descriptor

    def clear(self) -> None:
        """Makes the descriptor unreadable until the next event."""
        try:
            os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return
        self._arm()  # a directory may have appeared or gone

    def close(self) -> None:
        os.close(self._descriptor)

    def _arm(self) -> None:
        """Watches the directories; adding one again changes nothing."""
        for directory in self._directories:
            nearest = next(path for path in (directory, *directory.parents) if path.is_dir())
            _libc.inotify_add_watch(self._descriptor, os.fsencode(nearest), _EVENTS)
