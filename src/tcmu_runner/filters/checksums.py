"""The file of `verify`: a checksum of four bytes for each block, and marks for regions where they may be
wrong.

Data and checksums cannot be stored in one step. So a region is marked on stable storage before its data is
written; the mark is removed by a flush that finds no write there since the flush before it. After a crash the
checksums of marked regions are dropped, since they may be older or newer than the data.

Checksum 0 means unknown.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.sidecar import pread, pwrite
from tcmu_runner.handler.device import Device
from tcmu_runner.syscalls import KEEP_SIZE, PUNCH_HOLE, fallocate

MAGIC, VERSION = b"tcmu-sum", 1
HEAD = Struct("<8sII")  # magic, version, block size
MARKS_AT = 1 << 12  # a byte for each region, 1: marked
SUMS_AT = 1 << 26
REGION = 1 << 20  # bytes of data
MOST = (SUMS_AT - MARKS_AT) * REGION
WIDTH = 4  # bytes of a checksum
FOREIGN = "serve that one under this name, or move the file away: then all blocks count as right"


def checksums(data: memoryview, block_size: int, first: int) -> array[int]:
    """Of whole blocks. The block's number is included: a block at another's place does not match either."""
    starts = range(0, len(data), block_size)
    return array(
        "I",
        [
            zlib.crc32(data[at : at + block_size], number & 0xFFFFFFFF) or 1
            for number, at in enumerate(starts, first)
        ],
    )


@dataclass(slots=True)
class Mark:
    """A region where data and checksums may differ. writes: those under way. flushes: how many had begun when
    the last write ended."""

    writes: int = 0
    flushes: int = 0


class Checksums:
    """Methods may be called on several threads; offsets and lengths are bytes of data. They raise OSError."""

    def __init__(self, fd: int, block_size: int) -> None:
        self._fd = fd
        self._block_size = block_size
        self._lock = threading.Lock()
        self._marks: dict[int, Mark] = {}
        self._flushes = 0  # begun so far
        self._flushed = 0  # number of the last one that has succeeded

    @classmethod
    def open(cls, path: Path, device: Device) -> Checksums:
        """Creates a missing file. Raises OSError or ConfigError."""
        block_size = device.block_size
        if device.size > MOST:
            raise ConfigError(f"the filter verify takes disks of at most {MOST >> 40} TiB")
        fd = sidecar.claim(path, "checksum file", device.clock)
        try:
            if os.fstat(fd).st_size == 0:
                _make(fd, device)
            else:
                _check_head(fd, path, block_size)
                sidecar.check_storage(fd, path, device, "checksum file", FOREIGN)
            sums = cls(fd, block_size)
            sums._forget_marked()
        except BaseException:
            os.close(fd)
            raise
        return sums

    def close(self) -> None:
        """Removes the marks of regions that were flushed after their last write."""
        with self._lock:
            calm = [region for region, mark in self._marks.items() if self._is_calm(mark, self._flushed)]
        os.fdatasync(self._fd)
        self._unmark(calm)
        os.close(self._fd)

    def get(self, offset: int, length: int) -> array[int]:
        """The checksums of these blocks; 0: unknown."""
        width = length // self._block_size * WIDTH
        return array("I", pread(self._fd, width, self._place(offset)))

    def set(self, offset: int, sums: array[int]) -> None:
        pwrite(self._fd, sums.tobytes(), self._place(offset))

    def forget(self, offset: int, length: int) -> None:
        """Drops the checksums of these blocks; on stable storage when it returns."""
        width = length // self._block_size * WIDTH
        fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, self._place(offset), width)
        os.fdatasync(self._fd)

    def _place(self, offset: int) -> int:
        return SUMS_AT + offset // self._block_size * WIDTH

    # -- marks ----------------------------------------------------------------------------------------

    @contextmanager
    def changing(self, offset: int, length: int) -> Iterator[None]:
        """Marks the range. Within the context the caller writes data and calls `set`."""
        self._begin(offset, length)
        try:
            yield
        finally:
            self._end(offset, length)

    def _begin(self, offset: int, length: int) -> None:
        with self._lock:  # kept during fdatasync: other threads must not see the mark before it is stored
            fresh = [region for region in _regions(offset, length) if region not in self._marks]
            if fresh:
                pwrite(self._fd, b"\1" * (fresh[-1] - fresh[0] + 1), MARKS_AT + fresh[0])
                os.fdatasync(self._fd)
            for region in range(fresh[0], fresh[-1] + 1) if fresh else ():
                self._marks.setdefault(region, Mark(0, self._flushes))
            for region in _regions(offset, length):
                self._marks[region].writes += 1

    def _end(self, offset: int, length: int) -> None:
        with self._lock:
            for region in _regions(offset, length):
                mark = self._marks[region]
                mark.writes -= 1
                mark.flushes = self._flushes

    def begin_flush(self) -> int:
        with self._lock:
            self._flushes += 1
            return self._flushes

    def end_flush(self, number: int) -> None:
        """The data of all writes that ended before `begin_flush` is on stable storage."""
        with self._lock:
            self._flushed = max(self._flushed, number)
            calm = [region for region, mark in self._marks.items() if self._is_calm(mark, number - 1)]
        if calm:
            os.fdatasync(self._fd)
            self._unmark(calm)

    def _is_calm(self, mark: Mark, number: int) -> bool:
        """Whether flush `number` began after the region's last write had ended."""
        return not mark.writes and mark.flushes < number

    def _unmark(self, regions: list[int]) -> None:
        with self._lock:
            for region in regions:
                mark = self._marks.get(region)  # another flush may have removed it
                if mark is not None and self._is_calm(mark, self._flushed):
                    pwrite(self._fd, b"\0", MARKS_AT + region)
                    del self._marks[region]

    def _forget_marked(self) -> None:
        width = REGION // self._block_size * WIDTH
        for region in self._marked():
            fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, SUMS_AT + region * width, width)
        os.fdatasync(self._fd)
        fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, MARKS_AT, SUMS_AT - MARKS_AT)

    def _marked(self) -> Iterator[int]:
        """The regions that are marked. There are 64 MiB of marks, nearly all of them a hole of the file:
        to read them all took each opening 40 ms."""
        end = MARKS_AT
        while (start := self._data_from(end)) < SUMS_AT:
            end = min(os.lseek(self._fd, start, os.SEEK_HOLE), SUMS_AT)
            marks = os.pread(self._fd, end - start, start)
            at = marks.find(1)
            while at >= 0:
                yield start + at - MARKS_AT
                at = marks.find(1, at + 1)

    def _data_from(self, at: int) -> int:
        """Where the file's next data begins; where the sums do when no data comes before them."""
        try:
            return os.lseek(self._fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return SUMS_AT
            raise


def _regions(offset: int, length: int) -> range:
    return range(offset // REGION, (offset + length - 1) // REGION + 1)


def _make(fd: int, device: Device) -> None:
    pwrite(fd, HEAD.pack(MAGIC, VERSION, device.block_size), 0)
    sidecar.assign(fd, device)


def _check_head(fd: int, path: Path, block_size: int) -> None:
    found = os.pread(fd, HEAD.size, 0)
    if len(found) < HEAD.size or not found.startswith(MAGIC):
        raise ConfigError(f"{path} has no checksums in it: move it away, or choose another directory")
    _, version, blocks = HEAD.unpack(found)
    if (version, blocks) != (VERSION, block_size):
        raise ConfigError(
            f"{path}: checksums of version {version}, of blocks of {blocks} bytes instead of {block_size}; "
            "move it away: then all blocks count as right"
        )
