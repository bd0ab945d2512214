"""Attribute files of sysfs and configfs: one read is one show(), one write one store() in the kernel."""

import errno
import glob
import os
from pathlib import Path

from tcmu_runner.errors import TcmuError

_MAX_SHOW = 1 << 16  # a page has 64 KiB at most
_MAX_STORE = 4095  # SIMPLE_ATTR_SIZE of fs/configfs/file.c, less the NUL; sysfs takes a page


class KernelFileError(OSError, TcmuError):
    """The kernel refused to open, read or write a file. The text names device, file and the way out."""

    errno: int

    def __init__(self, code: int, message: str, path: Path) -> None:
        super().__init__(code, message, str(path))

    def __str__(self) -> str:
        return f"{self.strerror} ({self.filename})"


def read(path: Path) -> str:
    """The text without the final newlines; bytes that are not UTF-8 as surrogate escapes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MAX_SHOW).decode("utf-8", "surrogateescape").rstrip("\n")
    finally:
        os.close(fd)


def find(directory: Path, pattern: str) -> list[Path]:
    """The matching paths below `directory`, sorted; files removed meanwhile are left out (Path.glob would
    raise FileNotFoundError)."""
    return [directory / name for name in sorted(glob.glob(pattern, root_dir=directory))]  # noqa: PTH207


def write(path: Path, text: str) -> None:
    """Stores `text` in one write: a buffered file would retry a refused write. Raises OSError."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > _MAX_STORE:
        raise OSError(errno.E2BIG, f"more than {_MAX_STORE} bytes cannot be stored at once", str(path))
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
