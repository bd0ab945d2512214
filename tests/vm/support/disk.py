"""Bytes of a disk past the page cache."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ALIGNMENT = 4096


class OpenDisk:
    """offset, lengths: multiples of 4096 bytes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, offset: int, length: int) -> bytes:
        with mmap.mmap(-1, length) as memory:
            assert os.preadv(self._fd, [memory], offset) == length
            return memory[:]

    def write(self, offset: int, data: bytes) -> None:
        with mmap.mmap(-1, len(data)) as memory:
            memory[:] = data
            assert os.pwritev(self._fd, [memory], offset) == len(data)

    def flush(self) -> None:
        """SYNCHRONIZE CACHE."""
        os.fsync(self._fd)


@contextmanager
def opened(disk: Path, flags: int = os.O_RDWR) -> Iterator[OpenDisk]:
    """For many commands: each time that a writer closes a disk, udev reads some sixty blocks of it."""
    fd = os.open(disk, flags | os.O_DIRECT)
    try:
        yield OpenDisk(fd)
    finally:
        os.close(fd)


def read(disk: Path, offset: int, length: int) -> bytes:
    """See OpenDisk."""
    with opened(disk, os.O_RDONLY) as there:
        return there.read(offset, length)


def write(disk: Path, offset: int, data: bytes) -> None:
    with opened(disk, os.O_WRONLY) as there:
        there.write(offset, data)


def size(disk: Path) -> int:
    """Bytes, as the initiator believes."""
    return int(Path(f"/sys/block/{disk.name}/size").read_text()) * 512
