"""The file that a filter keeps beside the data: one for each device, used by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.device import Device
from tcmu_runner.iov import Buffers


def path_of(device: Device, directory: Path, kind: str) -> Path:
    """Its name in the directory, with `kind` as its suffix: user_0%2Fvol0.cow."""
    return directory / f"{quote(device.name, safe='')}.{kind}"


def claim(path: Path, what: str) -> int:
    """The file, made if it is missing, open and locked until it is closed. what: it is to people.
    Raises DeviceError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"{what} {path}: {error.strerror}; correct the directory"
        raise DeviceError(text, error.errno or errno.EIO) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DeviceError(f"{what} {path} is in use by another process", errno.EBUSY) from None
    return fd


def pread(fd: int, length: int, offset: int) -> bytes:
    """Zeroes behind the end of the file."""
    content = b""
    while piece := os.pread(fd, length - len(content), offset + len(content)):
        content += piece
    return content.ljust(length, b"\0")


def pwritev(fd: int, data: Buffers, offset: int) -> None:
    """All of them, one behind the other."""
    for buffer in data:
        pwrite(fd, buffer, offset)
        offset += len(buffer)


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> None:
    """All of it."""
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, offset)
        left, offset = left[done:], offset + done
