"""`cache`: chunks of the disk in a faster file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.cache_file import Slots
from tcmu_runner.filters.options import parse_table
from tcmu_runner.filters.striped_lock import PART, StripedLock
from tcmu_runner.handler.device import Device, Origin
from tcmu_runner.handler.filter import Filter
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import (
    Extents,
    Flush,
    MeasureSpace,
    Operation,
    Read,
    Remote,
    Steps,
    Unmap,
    Write,
    WriteZeroes,
)
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError, ScsiStatusError
from tcmu_runner.scsi.unit import Capabilities

CHUNK = 4096  # bytes, or a block if that is larger; a divisor of PART
TRIES = 32  # chunks tried when one has to make room
MODES = ("write-through", "write-back")


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """directory: absolute, of the cache files. size: bytes of each. mode: one of MODES."""

    directory: Path
    size: int = 256 << 20
    mode: str = MODES[0]

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"option mode = {self.mode!r}: write {' or '.join(map(repr, MODES))}")


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of an operation's buffers that lies in one chunk, from the chunk's byte `skip` on."""

    chunk: int
    skip: int
    offset: int
    buffers: Buffers
    whole: bool


class Cache(Filter[CacheOptions]):
    """Keeps chunks of 4096 bytes that were read or written in a file on faster storage than the one below: on
    an SSD, or in memory (a directory of a tmpfs, such as /dev/shm).

      directory   where the caches are; it has to exist. The cache of vol0 is vol0.cache there
      size        bytes of each cache ("256M")
      mode        "write-through": a write ends when the storage below has it (the default).
                  "write-back": it ends when the cache has it; the storage below gets it with the next flush,
                  or when the cache needs the room

    A flush, or a write with FUA, succeeds only when the storage below has everything on stable storage. What
    it could not take stays in the cache: the flush fails with its error; without a flush, initiators get a
    deferred error. Writes that were not flushed survive the process, but not a power loss. They belong to the
    storage below: over another one the LUN is refused until the writes are stored there, the cache file is
    removed, or `tcmu-runner overlay FILE adopt` gives it to a copy.

    Example: { filter = "cache", directory = "/dev/shm", size = "1G", mode = "write-back" }
    """

    name = "cache"
    threads: ClassVar[int] = 8
    privileges: ClassVar[frozenset[str]] = frozenset({"DAC_OVERRIDE"})

    def __init__(self, slots: Slots, device: Device, chunk: int, *, back: bool) -> None:
        self.slots = slots
        self._device = device
        self._size = device.size
        self._chunk = chunk
        self._back = back
        self._locks = StripedLock()

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> CacheOptions:
        return parse_table(CacheOptions, table)

    @classmethod
    def open(cls, device: Device, options: CacheOptions) -> Self:
        path = sidecar.path_of(device, options.directory, "cache")
        if (
            options.mode == "write-back" and device.origin is Origin.RUNNING
        ):  # else the file was empty, or is from an earlier boot
            sidecar.expect(path, device, "cache")
        chunk = max(CHUNK, device.block_size)
        slots = Slots.open(path, options.size, chunk, device)
        return cls(slots, device, chunk, back=options.mode == "write-back")

    def capabilities(self, below: Capabilities) -> Capabilities:
        return replace(below, flush=below.flush or self._back, crypto_erase=False)

    def handle(self, operation: Operation) -> Steps:
        match operation:
            case Read():
                yield from self._read(operation)
            case Write():
                with self._locks.on(operation.offset, iov.length(operation.data)):
                    through = operation.fua or not self._back
                    yield from self._write_through(operation) if through else self._write_back(operation)
            case Unmap() | WriteZeroes():
                yield from self._zero(operation)
            case Flush():
                yield from self._write_all()
                yield operation
            case Extents():
                yield from self._write_all(operation.offset, operation.length)
                yield operation
            case MeasureSpace() | Remote():
                yield operation
            case _:
                raise ScsiError(INVALID_OPCODE)

    def stop(self) -> Steps:
        """Writes all dirty chunks. Those that fail stay in the file for the next opening."""
        try:
            yield from self._write_all()
            yield Flush()
        except (OSError, ScsiError, ScsiStatusError) as error:
            self._device.log.error("cache not emptied: %s: the rest stays: open the device again soon", error)

    # -- reads and writes -----------------------------------------------------------------------------

    def _pieces(self, offset: int, buffers: Buffers) -> Iterator[Piece]:
        end, at = offset + iov.length(buffers), offset
        while at < end:
            chunk = at // self._chunk
            first, last = self._bounds(chunk)
            length = min(last, end) - at
            piece = iov.cut(buffers, at - offset, length)
            yield Piece(chunk, at - first, at, piece, whole=length == self._chunk)
            at += length

    def _bounds(self, chunk: int) -> tuple[int, int]:
        return chunk * self._chunk, min((chunk + 1) * self._chunk, self._size)

    def _read(self, operation: Read) -> Steps:
        with self._locks.on(operation.offset, iov.length(operation.into)):
            missing: list[Piece] = []
            for piece in self._pieces(operation.offset, operation.into):
                if piece.chunk not in self.slots:
                    missing.append(piece)
                    continue
                self.slots.read(piece.chunk, piece.buffers, piece.skip)
                yield from self._fetch(missing)
                missing = []
            yield from self._fetch(missing)

    def _fetch(self, pieces: list[Piece]) -> Steps:
        """Reads adjacent chunks that are not in the cache with one read, and keeps them."""
        if not pieces:
            return
        yield Read(pieces[0].offset, [buffer for piece in pieces for buffer in piece.buffers])
        for piece in pieces:
            if piece.whole:
                yield from self._keep(piece, dirty=False)

    def _keep(self, piece: Piece, *, dirty: bool) -> Steps:
        """Adds a chunk to the cache if a slot is free or can be freed."""
        if not self.slots.add(piece.chunk, piece.buffers, dirty=dirty):
            yield from self._make_room()
            self.slots.add(piece.chunk, piece.buffers, dirty=dirty)

    def _write_through(self, operation: Write) -> Steps:
        pieces = list(self._pieces(operation.offset, operation.data))
        try:
            yield operation
        except BaseException:
            for piece in pieces:  # a failed write may be partly done; dirty chunks are written again
                if not self.slots.is_dirty(piece.chunk):
                    self.slots.drop(piece.chunk)
            raise
        for piece in pieces:
            if piece.chunk in self.slots:
                self._update(piece)
            elif piece.whole:
                yield from self._keep(piece, dirty=False)

    def _update(self, piece: Piece) -> None:
        """After a write below. If the cache cannot take the data, drops its chunk, which is out of date."""
        try:
            self.slots.write(piece.chunk, piece.buffers, piece.skip, dirty=False)
        except OSError:
            if self.slots.is_dirty(piece.chunk):
                raise
            self.slots.drop(piece.chunk)

    def _write_back(self, operation: Write) -> Steps:
        for piece in self._pieces(operation.offset, operation.data):
            if piece.chunk in self.slots:
                self.slots.write(piece.chunk, piece.buffers, piece.skip, dirty=True)
                continue
            if piece.whole:
                yield from self._keep(piece, dirty=True)
            if piece.chunk not in self.slots:
                yield Write(piece.offset, piece.buffers)

    def _zero(self, operation: Unmap | WriteZeroes) -> Steps:
        first = operation.offset // self._chunk
        last = (operation.offset + operation.length - 1) // self._chunk
        with self._locks.on(operation.offset, operation.length):
            for chunk in {first, last}:  # the range may cover only a part of these two
                yield from self._write_chunks([chunk] if self.slots.is_dirty(chunk) else [])
            yield operation
            for chunk in self.slots.within(first, last + 1):
                self.slots.drop(chunk)

    # -- back to the storage below ---------------------------------------------------------------------

    def _write_all(self, offset: int = 0, length: int | None = None) -> Steps:
        """Writes all dirty chunks of a range. Those that fail stay dirty; the others are still written."""
        end = self._size if length is None else offset + length
        failure: Exception | None = None
        for chunks in self._groups(self.slots.within(offset // self._chunk, -(-end // self._chunk))):
            with self._locks.on(chunks[0] * self._chunk, 1):
                try:
                    yield from self._write_chunks([chunk for chunk in chunks if self.slots.is_dirty(chunk)])
                except (OSError, ScsiError, ScsiStatusError) as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _groups(self, chunks: list[int]) -> Iterator[list[int]]:
        """Groups dirty chunks by the lock that they share."""
        group: list[int] = []
        for chunk in sorted(filter(self.slots.is_dirty, chunks)):
            if group and chunk * self._chunk // PART != group[0] * self._chunk // PART:
                yield group
                group = []
            group.append(chunk)
        if group:
            yield group

    def _write_chunks(self, chunks: list[int]) -> Steps:
        """Writes adjacent chunks with one write. The caller holds their lock."""
        while chunks:
            count = next((n for n, chunk in enumerate(chunks) if chunk != chunks[0] + n), len(chunks))
            run, chunks = chunks[:count], chunks[count:]
            data = []
            for chunk in run:
                first, last = self._bounds(chunk)
                self.slots.read(chunk, buffers := iov.allocate(last - first))
                data += buffers
            yield Write(run[0] * self._chunk, data)
            for chunk in run:
                self.slots.clean(chunk)

    def _make_room(self) -> Steps:
        """Drops one of the least recently used chunks, one that no other thread has locked."""
        for chunk in self.slots.oldest(TRIES):
            with self._locks.at_once(chunk * self._chunk) as mine:
                if not mine or chunk not in self.slots:
                    continue
                try:
                    yield from self._write_chunks([chunk] if self.slots.is_dirty(chunk) else [])
                except (OSError, ScsiError, ScsiStatusError) as error:
                    self._tell(error, chunk)
                    continue
                self.slots.drop(chunk)
                return

    def _tell(self, error: Exception, chunk: int) -> None:
        self._device.log.warning(
            "cannot write %d bytes at %d to the storage below: %s: the cache keeps them",
            self._chunk, chunk * self._chunk, error,
        )  # fmt: skip
        if isinstance(error, OSError):
            self._device.on_write_lost(error)

    def resized(self, size: int) -> None:
        for chunk in self.slots.within(-(-size // self._chunk), -(-self._size // self._chunk)):
            self.slots.drop(chunk)
        self._size = size

    def close(self) -> None:
        self.slots.close()
