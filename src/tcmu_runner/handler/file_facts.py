"""Facts of a file or block device: its identity, independent of its name (see Plugin.identity), and the data
and holes of a sparse file, as mapped and unmapped extents."""

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
_STATX = struct.Struct("=I76xqI")  # stx_mask, and stx_btime behind stx_atime
_SIZE = 256
FS_IOC_GETVERSION = 0x80087601  # linux/fs.h: _IOR('v', 1, long); file systems fill in an int
_WWIDS = ("dm/uuid", "md/uuid", "wwid", "device/wwid", "uuid", "loop/backing_file")

BLOCK_DEVICES = Path("/sys/dev/block")

_libc = ctypes.CDLL(None, use_errno=True)


def identity_of(fd: int, name: str) -> str:
    """For a file its inode, which another file may reuse, with its time of birth or its generation. name: the
    path, used if the file system reports neither: its inodes may then change at the next mount."""
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
    """The inode's generation, which differs for each file that reuses the inode (ext4, XFS, btrfs)."""
    number = bytearray(8)
    try:
        fcntl.ioctl(fd, FS_IOC_GETVERSION, number)
    except OSError:
        return []
    return [f"generation {int.from_bytes(number[:4], 'little')}"]


def _block_device(number: int, name: str) -> str:
    """By the id that hardware, device mapper or RAID gives it; device numbers change at a reboot."""
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
    """Extents of a disk that begins at byte `start` of the file, ascending. Raises OSError.

    In whole blocks: if the file system's blocks are smaller, a block that is partly data counts as data.
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
        if error.errno == errno.ENXIO:  # only a hole up to the end of the file, or beyond it
            return end
        raise
