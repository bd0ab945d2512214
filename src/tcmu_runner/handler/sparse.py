"""Which parts of a sparse file are there: holes are not mapped."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tcmu_runner.scsi.operations import Extent


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
