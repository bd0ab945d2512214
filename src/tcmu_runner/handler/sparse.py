"""Data and holes of a sparse file, as mapped and unmapped extents."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tcmu_runner.scsi.operations import Extent


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
