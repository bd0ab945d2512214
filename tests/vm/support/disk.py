"""Bytes of a disk past the page cache."""

import mmap
import os
from pathlib import Path

ALIGNMENT = 4096


def read(disk: Path, offset: int, length: int) -> bytes:
    """offset, length: multiples of 4096 bytes."""
    with mmap.mmap(-1, length) as memory:
        fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
        try:
            assert os.preadv(fd, [memory], offset) == length
        finally:
            os.close(fd)
        return memory[:]


def write(disk: Path, offset: int, data: bytes) -> None:
    """offset, and the length of data: multiples of 4096 bytes."""
    with mmap.mmap(-1, len(data)) as memory:
        memory[:] = data
        fd = os.open(disk, os.O_WRONLY | os.O_DIRECT)
        try:
            assert os.pwritev(fd, [memory], offset) == len(data)
        finally:
            os.close(fd)


def size(disk: Path) -> int:
    """Bytes, as the initiator believes."""
    return int(Path(f"/sys/block/{disk.name}/size").read_text()) * 512
