"""The file that `cow` writes to: which blocks it has, and their content.

A header, two bitmaps with a bit for each block, and the blocks, each at its own place; all of it sparse. A
block without a bit is read from the storage below, whatever is at its place here; a block with a bit and a
hole is zeroes.

The first bitmap survives a power loss: a flush sets its bits, after the blocks have reached stable storage.
The second bitmap is the current state. It is mapped memory, so like the blocks in the page cache it survives
the process, but not the machine. The header has the boot id under which the second bitmap was written; under
another boot id the first one is used.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from uuid import UUID

from tcmu_runner import files, iov
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.errors import ConfigError, DeviceError
from tcmu_runner.filters import bitmap, sidecar
from tcmu_runner.filters.sidecar import pread, pwrite, pwritev
from tcmu_runner.handler import file_facts
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.file_facts import identity_of
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Extent, Space
from tcmu_runner.syscalls import KEEP_SIZE, PUNCH_HOLE, fallocate

MAGIC, VERSION = b"tcmu-cow", 1
HEAD = Struct("<8sIIQ16sB")  # magic, version, block size, size, boot id, whether a commit is wanted
BITMAP_BYTES = 1 << 32  # room for 2^35 blocks
DURABLE_AT = 1 << 20
PRESENT_AT = DURABLE_AT + BITMAP_BYTES
BLOCKS_AT = 1 << 34
PAGE = mmap.PAGESIZE
PIECE = 1 << 20  # bytes copied at a time
FOREIGN = "serve that one under this name, or move the overlay away"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """The id of this boot."""
    return UUID(BOOT_ID.read_text().strip()).bytes


class Overlay:
    """Methods may be called on several threads. Offsets and lengths are whole blocks, in bytes. They raise
    OSError."""

    def __init__(self, path: Path, fd: int, size: int, block_size: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd
        self._block_size = block_size
        self._lock = threading.Lock()  # for the bitmap in memory and its dirty pages
        self._flushing = threading.Lock()
        self._dirty: set[int] = set()  # pages of the bitmap that differ from those on stable storage
        self._present: mmap.mmap
        self._map()

    @classmethod
    def find(cls, path: Path, clock: Clock = MACHINE) -> Overlay:
        """Opens an existing file, for the command line. Raises OSError or ConfigError."""
        with path.open("rb") as file:
            size, block_size, *_ = _read_head(file.fileno(), path)
        return cls.open(path, size, block_size, clock=clock)

    @classmethod
    def open(
        cls, path: Path, size: int, block_size: int, device: Device | None = None, clock: Clock = MACHINE
    ) -> Overlay:
        """Creates a missing file. Raises OSError or ConfigError when it is another disk's, or in use. device:
        its owner; None: no check, for the command line. clock: to wait for another process."""
        fd = sidecar.claim(path, "overlay", clock)
        try:
            _check_holes(fd, path)
            if os.fstat(fd).st_size == 0:
                _make(fd, path, size, block_size, device)
            elif device is not None:
                _read_head(fd, path)
                sidecar.check_storage(fd, path, device, "overlay", FOREIGN)
            _, blocks, boot, _ = _read_head(fd, path)
            _check_blocks(path, blocks, block_size)
            os.ftruncate(fd, max(os.fstat(fd).st_size, BLOCKS_AT + size))
            overlay = cls(path, fd, size, block_size)
            overlay._recover(boot)
        except BaseException:
            os.close(fd)
            raise
        return overlay

    def close(self) -> None:
        self._present.close()
        os.close(self._fd)

    def resize(self, size: int) -> None:
        os.ftruncate(self._fd, max(os.fstat(self._fd).st_size, BLOCKS_AT + size))
        with self._lock:
            self.size = size
            self._write_head(boot_id(), commit=False)
            self._present.close()
            self._map()

    # -- blocks ---------------------------------------------------------------------------------------

    def runs(self, offset: int, length: int) -> list[tuple[int, int, bool]]:
        """(offset, length, whether the overlay has the blocks), ascending."""
        block = self._block_size
        with self._lock:
            found = list(bitmap.runs(self._present, offset // block, (offset + length) // block))
        return [(first * block, (last - first) * block, here) for first, last, here in found]

    def read(self, into: Buffers, offset: int) -> None:
        """Reads blocks that the overlay has."""
        for buffer in into:
            iov.scatter([buffer], pread(self._fd, len(buffer), BLOCKS_AT + offset))
            offset += len(buffer)

    def write(self, data: Buffers, offset: int) -> None:
        pwritev(self._fd, data, BLOCKS_AT + offset)
        self._are_here(offset, iov.length(data))

    def zero(self, offset: int, length: int) -> None:
        """Makes the blocks zeroes, as a hole."""
        fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, BLOCKS_AT + offset, length)
        self._are_here(offset, length)

    def _are_here(self, offset: int, length: int) -> None:
        first, last = offset // self._block_size, (offset + length) // self._block_size
        with self._lock:
            if not bitmap.all_set(self._present, first, last):
                bitmap.fill(self._present, first, last)
                self._dirty.update(range(first // (8 * PAGE), (last - 1) // (8 * PAGE) + 1))

    def flush(self) -> None:
        """Makes earlier writes survive a power loss: syncs the blocks, then the bits that make them valid."""
        with self._flushing:
            with self._lock:
                pages = {number: self._page(number) for number in self._dirty}
                self._dirty.clear()
            try:
                os.fdatasync(self._fd)
                for number, content in pages.items():
                    pwrite(self._fd, content, DURABLE_AT + number * PAGE)
                if pages:
                    os.fdatasync(self._fd)
            except OSError:
                with self._lock:
                    self._dirty.update(pages)
                raise

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Extents of blocks that the overlay has."""
        return file_facts.extents(self._fd, offset, length, self._block_size, BLOCKS_AT)

    def space(self) -> Space:
        system = os.fstatvfs(self._fd)
        return Space(os.fstat(self._fd).st_blocks * 512, system.f_bavail * system.f_frsize)

    # -- the whole ------------------------------------------------------------------------------------

    @property
    def commit_wanted(self) -> bool:
        return _read_head(self._fd, self.path)[3]

    def want_commit(self) -> None:
        """Has the next `cow` that opens it first write all blocks to the storage below."""
        self._write_head(boot_id(), commit=True)
        os.fsync(self._fd)

    def discard(self) -> None:
        """Drops every block. Clears the bits first: after a power loss each bit that is left still has its
        block."""
        with self._lock:
            for at in (DURABLE_AT, PRESENT_AT):
                fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, at, BITMAP_BYTES)
            os.fsync(self._fd)
            length = os.fstat(self._fd).st_size - BLOCKS_AT
            fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, BLOCKS_AT, length)
            self._dirty.clear()
            self._write_head(boot_id(), commit=False)
            os.fsync(self._fd)

    def disown(self) -> None:
        """Removes the owner: the overlay then belongs to the storage that it is opened over next."""
        sidecar.disown(self._fd)

    def identity(self) -> str:
        return identity_of(self._fd, str(self.path))

    def pieces(self) -> Iterator[tuple[int, int, bool]]:
        """(offset, length, whether it is data or a hole) of each part that the overlay has."""
        for offset, length, here in self.runs(0, self.size):
            for extent in self.extents(offset, length) if here else ():
                for at in range(extent.offset, extent.offset + extent.length, PIECE):
                    yield at, min(PIECE, extent.offset + extent.length - at), extent.mapped

    def _map(self) -> None:
        bits = -(-self.size // self._block_size)
        length = max(-(-bits // (8 * PAGE)), 1) * PAGE
        self._present = mmap.mmap(self._fd, length, offset=PRESENT_AT)

    def _page(self, number: int) -> bytes:
        return self._present[number * PAGE : (number + 1) * PAGE]

    def _recover(self, boot: bytes) -> None:
        """Takes the durable bitmap if the machine was restarted since the other one was written."""
        now = boot_id()
        for number in range(len(self._present) // PAGE):
            durable = pread(self._fd, PAGE, DURABLE_AT + number * PAGE)
            if self._page(number) == durable:
                continue
            if boot == now:
                self._dirty.add(number)
            else:
                self._present[number * PAGE : (number + 1) * PAGE] = durable
        self._write_head(now, commit=self.commit_wanted)

    def _write_head(self, boot: bytes, *, commit: bool) -> None:
        head = HEAD.pack(MAGIC, VERSION, self._block_size, self.size, boot, commit)
        pwrite(self._fd, head, 0)


def _check_blocks(path: Path, found: int, wanted: int) -> None:
    if found != wanted:
        raise ConfigError(f"overlay {path} is of a disk with blocks of {found} bytes, not {wanted}")


def _check_holes(fd: int, path: Path) -> None:
    try:
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, DURABLE_AT - PAGE, PAGE)
    except OSError as error:
        text = f"overlay {path}: its file system has no sparse files; use ext4, xfs, btrfs or tmpfs"
        raise DeviceError(text, error.errno or errno.EOPNOTSUPP) from None


def _make(fd: int, path: Path, size: int, block_size: int, device: Device | None) -> None:
    """Writes the header and syncs the directory: later flushes rely on the file's existence."""
    pwrite(fd, HEAD.pack(MAGIC, VERSION, block_size, size, boot_id(), False), 0)
    if device is not None:
        sidecar.assign(fd, device)
    os.fsync(fd)
    files.keep_names(path.parent)


def _read_head(fd: int, path: Path) -> tuple[int, int, bytes, bool]:
    """(size, block size, boot id, whether a commit is wanted)."""
    content = os.pread(fd, HEAD.size, 0)
    if len(content) < HEAD.size or not content.startswith(MAGIC):
        raise ConfigError(f"{path} is no overlay: move it away, or choose another directory")
    _, version, blocks, size, boot, commit = HEAD.unpack(content)
    if version != VERSION:
        raise ConfigError(f"overlay {path} is of version {version}: it needs a newer tcmu-runner")
    if not blocks or size > 8 * BITMAP_BYTES * blocks or size >= 1 << 63:
        raise ConfigError(f"overlay {path} has a damaged head: restore it from a backup")
    return size, blocks, boot, bool(commit)
