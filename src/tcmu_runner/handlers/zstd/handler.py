"""`zstd//absolute/path`: a thin, compressed disk in a file."""

from __future__ import annotations

import errno
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Extent, Handler, Space
from tcmu_runner.handler.config import Number, parse_options
from tcmu_runner.handlers.claims import in_use, lun_with
from tcmu_runner.handlers.zstd.codec import Codec
from tcmu_runner.handlers.zstd.store import Change, Store
from tcmu_runner.iov import Buffers
from tcmu_runner.units import format_size

CHUNK = 16 << 10
CHUNKS = (4 << 10, 1 << 20)  # bytes, the smallest and the largest
LEVELS = range(1, 20)
LOCKS = 64
DELETED = 4096  # chunks deleted in one transaction


@dataclass(frozen=True, slots=True)
class ZstdOptions:
    """chunk: bytes compressed together; None: as the disk was created, or 16 KiB. level: of compression."""

    path: str
    chunk: int | None = None
    level: Number = 1

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.path.endswith("/"):
            raise ConfigError(
                f"path {self.path!r}: write zstd//srv/disk.zdb, with two slashes and a file's name"
            )
        if self.level not in LEVELS:
            raise ConfigError(f"option level={self.level}: write a number from 1 (fast) to 19 (small)")
        if self.chunk is not None and not _is_chunk(self.chunk):
            raise ConfigError(f"option chunk={self.chunk}: write 4K, 8K, 16K, ... or 1M")


class ZstdHandler(Handler[ZstdOptions]):
    """zstd//ABSOLUTE/PATH[;chunk=SIZE][;level=N]

    A thin disk with compressed content with zstd, in an SQLite database that is created for a new LUN.
    Zeroes take no space, UNMAP gives space back to the file system, and each chunk has a checksum. Writes
    survive the death of this process, flushed ones also a power loss.

      chunk   bytes that are compressed together (16K): larger ones take less space, small writes more time;
              a disk keeps the size that it was created with
      level   from 1 (fast, the default) to 19 (small)

    While it is open there is a log beside the database, PATH-wal: copy or move both together. Writes are
    refused when the file system has 8 MiB left: UNMAP needs them to give space back.

    Examples: zstd//srv/disk.zdb  zstd//srv/archive.zdb;chunk=128K;level=9
    """

    subtype = "zstd"
    threads = 8
    privileges = frozenset({"DAC_OVERRIDE"})  # images may belong to any user

    def __init__(self, device: Device, store: Store, chunk: int, level: int) -> None:
        self._device = device
        self._store = store
        self._chunk = chunk
        self._size = device.size
        self._codec = Codec(chunk, level)
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    @classmethod
    def parse(cls, config: str) -> ZstdOptions:
        return parse_options(ZstdOptions, config)

    @classmethod
    def occupied(cls, config: ZstdOptions) -> bool:
        path = Path(config.path)
        return path.exists() and path.stat().st_size > 0

    @classmethod
    def open(cls, device: Device, config: ZstdOptions) -> ZstdHandler:
        path = Path(config.path)
        _check_place(path)
        Codec(CHUNK, config.level)  # raises without zstd, before any file is made
        if not path.exists():
            device.missing(str(path), f"touch {path}")
        try:
            store = Store.open(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise in_use(path, lun_with(path, device.name), shareable=False) from None
            raise
        try:
            handler = cls(device, store, _chunk_size(store, path, config.chunk), config.level)
            device.log.info("%s: %s", path, handler.status())
        except BaseException:
            store.close()
            raise
        return handler

    def close(self) -> None:
        self._device.log.info("%s", self.status())
        self._store.close()

    def status(self) -> str:
        """For the log: bytes stored, bytes of the file, and the ratio."""
        kept, used = self._store.count() * self._chunk, self._store.used
        return f"{format_size(kept)} of data in {format_size(used)}, {kept / used:.2f} to 1"

    def identity(self) -> str:
        return f"zstd disk {self._store.uuid()}"

    # data

    def read(self, into: Buffers, offset: int) -> None:
        length = iov.length(into)
        frames, at = self._store.frames(*self._touched(offset, length)), 0
        for number, start, end in self._pieces(offset, length):
            data = self._codec.unpack(number, frames.get(number))
            iov.scatter(iov.cut(into, at, end - start), memoryview(data)[start:end])
            at += end - start

    def write(self, data: Buffers, offset: int) -> None:
        length = iov.length(data)
        with self._alone(offset, length):
            changes, at = [], 0
            for number, start, end in self._pieces(offset, length):
                changes.append(self._changed(number, start, iov.gather(iov.cut(data, at, end - start))))
                at += end - start
            self._store.commit(changes)

    def _changed(self, number: int, start: int, piece: bytes) -> Change:
        """(number, frame) of the chunk after a write of `piece` at `start`; reads a chunk written in part."""
        if len(piece) < self._chunk:
            before = self._codec.unpack(number, self._store.frames(number, number).get(number))
            piece = before[:start] + piece + before[start + len(piece) :]
        return number, self._codec.pack(piece)

    def flush(self) -> None:
        self._store.flush()

    def unmap(self, offset: int, length: int) -> None:
        with self._alone(offset, length):
            self._clear(offset, length)
        self._store.give_back()

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.unmap(offset, length)

    def _clear(self, offset: int, length: int) -> None:
        """Deletes whole chunks and zeroes parts of others. Call within `_alone`."""
        first, end = -(-offset // self._chunk), (offset + length) // self._chunk
        for start in range(first, end, DELETED):
            self._store.delete(start, min(start + DELETED, end) - 1)
        edges = {number: self._piece(number, offset, length) for number in self._touched(offset, length)}
        changes = [
            self._changed(number, start, bytes(stop - start))
            for number, (start, stop) in edges.items()
            if stop - start < self._chunk and self._store.present(number, number)
        ]
        if changes:
            self._store.commit(changes)

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """In whole chunks, cut at the ends of the range."""
        end, at = offset + length, offset
        for first, last in _runs(self._store.present(*self._touched(offset, length))):
            start, stop = max(first * self._chunk, offset), min((last + 1) * self._chunk, end)
            if at < start:
                yield Extent(at, start - at, mapped=False)
            yield Extent(start, stop - start, mapped=True)
            at = stop
        if at < end:
            yield Extent(at, end - at, mapped=False)

    def space(self) -> Space:
        return Space(self._store.used, max(self._store.available, 0))

    def resize(self, size: int) -> None:
        """Clears what is cut off: it reads as zeroes if the disk grows again."""
        if size < self._size:
            self.unmap(size, self._size - size)
        self._size = size

    # chunks

    def _touched(self, offset: int, length: int) -> tuple[int, int]:
        """The first and the last chunk with bytes in the range."""
        return offset // self._chunk, (offset + length - 1) // self._chunk

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(number, start, end) for each chunk of the range."""
        first, last = self._touched(offset, length)
        for number in range(first, last + 1):
            yield number, *self._piece(number, offset, length)

    def _piece(self, number: int, offset: int, length: int) -> tuple[int, int]:
        """(start, end): the chunk's bytes in the range."""
        base = offset - number * self._chunk
        return max(base, 0), min(base + length, self._chunk)

    @contextmanager
    def _alone(self, offset: int, length: int) -> Iterator[None]:
        """Locks the range's chunks against other threads."""
        first, last = self._touched(offset, length)
        count = min(last - first + 1, LOCKS)
        with ExitStack() as held:
            for index in sorted((first + at) % LOCKS for at in range(count)):
                held.enter_context(self._locks[index])
            yield


def _is_chunk(size: int) -> bool:
    return CHUNKS[0] <= size <= CHUNKS[1] and size.bit_count() == 1


def _chunk_size(store: Store, path: Path, wanted: int | None) -> int:
    size = store.setting("chunk", wanted or CHUNK)
    if not _is_chunk(size):
        raise ConfigError(f"{path} says chunk={size}, which no disk has: restore it from a backup")
    if wanted not in (None, size):
        raise ConfigError(f"{path} was made with chunk={size}: leave the option chunk out")
    return size


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers."""
    first = last = -1
    for number in numbers:
        if number != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = number
        last = number
    if first >= 0:
        yield first, last


def _check_place(path: Path) -> None:
    """Raises OSError with the cause; SQLite would only report that it cannot open the file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise OSError(
                errno.ENOENT, f"{path}: {path.parent} does not exist: create it, or correct the path"
            ) from None
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{path} is no file: name a file")
