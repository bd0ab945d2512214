"""What Linux knows of a file or block device: which one it is, whatever its name (see Plugin.identity), and
which parts of it are there."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tcmu_runner.scsi.operations import Extent

AT_EMPTY_PATH = 0x1000  # linux/fcntl.h
STATX_BTIME = 0x800  # linux/stat.h, as the layout of struct statx
_STATX = struct.Struct("=I76xqI")  # its mask, and the time of birth behind that of the last access
_SIZE = 256
FS_IOC_GETVERSION = 0x80087601  # linux/fs.h: _IOR('v', 1, long); file systems fill in an int
_WWIDS = ("dm/uuid", "md/uuid", "wwid", "device/wwid", "uuid", "loop/backing_file")

BLOCK_DEVICES = Path("/sys/dev/block")

_libc = ctypes.CDLL(None, use_errno=True)


def identity_of(fd: int, name: str) -> str:
    """A file by its inode, which another file may get after it, and the moment it was made at. name: its
    path, taken where the file system tells neither that moment nor a generation: then inodes may be others
    after the next mount, too."""
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        return _block_device(status.st_rdev, name)
    words = [f"inode {status.st_ino}", *_made(fd), *_generation(fd)]
    return ", ".join(words) if len(words) > 1 else f"path {name}"


def _made(fd: int) -> list[str]:
    statx = getattr(_libc, "statx", None)
    answer = ctypes.create_string_buffer(_SIZE)
    if statx is None or statx(fd, b"", AT_EMPTY_PATH, STATX_BTIME, answer):
        return []
    mask, seconds, nanoseconds = _STATX.unpack_from(answer)
    return [f"made at {seconds}.{nanoseconds:09}"] if mask & STATX_BTIME and seconds else []


def _generation(fd: int) -> list[str]:
    """Another one for each file that has the inode, on file systems such as ext4, XFS and btrfs."""
    number = bytearray(8)
    try:
        fcntl.ioctl(fd, FS_IOC_GETVERSION, number)
    except OSError:
        return []
    return [f"generation {int.from_bytes(number[:4], 'little')}"]


def _block_device(number: int, name: str) -> str:
    """By what the hardware, device mapper or RAID calls it. Its numbers are others after the next boot."""
    node = BLOCK_DEVICES / f"{os.major(number)}:{os.minor(number)}"
    part = ""
    with suppress(OSError):
        part = f", partition {(node / 'partition').read_text().strip()}"
        node = node / ".."
    for kind in _WWIDS:
        with suppress(OSError):
            if found := (node / kind).read_text(errors="replace").strip():
                return f"disk {found}{part}"
    return f"path {name}"


def extents(fd: int, offset: int, length: int, block_size: int, start: int = 0) -> Iterator[Extent]:
    """Of a disk that begins at byte `start` of the file; in order. OSError.

    Whole blocks: where a file system counts in smaller ones, a block that is partly data is data.
    """
    end = offset + length
    while offset < end:
        found = _seek(fd, start + offset, os.SEEK_DATA, start + end) - start
        data = found // block_size * block_size
        if data > offset:
            yield Extent(offset, data - offset, mapped=False)
        offset = data
        if data < end:
            hole = _seek(fd, start + found, os.SEEK_HOLE, start + end) - start
            offset = -(-hole // block_size) * block_size
            yield Extent(data, offset - data, mapped=True)


def _seek(fd: int, offset: int, whence: int, end: int) -> int:
    try:
        return min(os.lseek(fd, offset, whence), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole until the end of the file, or behind it
            return end
        raise
