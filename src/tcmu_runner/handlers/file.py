"""`file//absolute/path`: a disk in a file or on a block device."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Extent, Handler, Space, file_facts
from tcmu_runner.handler.config import parse_options
from tcmu_runner.handler.file_facts import identity_of
from tcmu_runner.handlers.backing import Backing, aligned_memory
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.syscalls import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, address, fallocate

MAX_VECTORS = os.sysconf("SC_IOV_MAX")
STAT_BLOCK = 512  # bytes: the unit of st_blocks in stat(2), whatever the file system
ZEROES = aligned_memory(1 << 20)

Transfer = Callable[[int, Buffers, int], int]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """direct: bypass the page cache (O_DIRECT). read_only: never write, the file must exist. shared: other
    LUNs may write to it, too."""

    path: str
    direct: bool = False
    read_only: bool = False
    shared: bool = False


class FileHandler(Handler[FileOptions]):
    """file//ABSOLUTE/PATH[;direct][;read_only][;shared]

    A disk in a file, or on a block device. A missing file is created, sparse, for a new LUN; a LUN that was
    served before is refused without its file. A file shorter than the disk grows, a longer one keeps its
    tail. UNMAP gives the space back to the file system.

      direct     bypass the page cache (O_DIRECT): no second copy in memory, and the device's own speed
      read_only  a write-protected disk; the file has to exist
      shared     several LUNs have the same file, each with this option, and their initiators coordinate their
                 writes; without it the second LUN is refused

    Examples: file//srv/disk.img  file//srv/golden.img;read_only  file//dev/vg0/lun1;direct
    """

    subtype = "file"
    threads = 4
    privileges = frozenset({"DAC_OVERRIDE"})  # images may belong to any user

    def __init__(self, backing: Backing, block_size: int, *, direct: bool) -> None:
        self.backing = backing
        self.fd = backing.fd
        self.block_size = block_size
        self.direct = direct
        self._can = _capabilities(backing, block_size)
        self._read_now = not direct  # RWF_NOWAIT does not help: a direct read always waits for the disk

    @classmethod
    def parse(cls, config: str) -> FileOptions:
        options = parse_options(FileOptions, config)
        if not options.path.startswith("/"):
            raise ConfigError(
                f"path {options.path!r} is not absolute: write file//srv/disk.img, with two slashes"
            )
        if options.path.endswith("/"):
            raise ConfigError(f"path {options.path!r} is a directory: name a file in it")
        return options

    @classmethod
    def probe(cls, config: FileOptions) -> int | None:
        try:
            descriptor = os.open(config.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)  # also gives a block device's size
        finally:
            os.close(descriptor)

    @classmethod
    def occupied(cls, config: FileOptions) -> bool:
        """A file without any data extent counts as empty."""
        try:
            descriptor = os.open(config.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            os.lseek(descriptor, 0, os.SEEK_DATA)  # returns 0 for a block device: occupied
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        finally:
            os.close(descriptor)
        return True

    @classmethod
    def open(cls, device: Device, config: FileOptions) -> FileHandler:
        backing = Backing.open(
            Path(config.path), device,
            read_only=config.read_only, direct=config.direct, shared=config.shared,
        )  # fmt: skip
        return cls(backing, device.block_size, direct=config.direct)

    def capabilities(self) -> Capabilities:
        """Those of the file system or device, found when it was opened."""
        return self._can

    def close(self) -> None:
        self.backing.close()

    def resize(self, size: int) -> None:
        """A shorter file grows, a longer one is not cut; a block device has to be large enough."""
        self.backing.fit(size, self.block_size)

    def read(self, into: Buffers, offset: int) -> None:
        if self.direct and not self._aligned(into):
            bounce = aligned_memory(iov.length(into))
            self._whole(os.preadv, [bounce], offset, at_end=iov.zero)
            iov.scatter(into, bounce)
        elif len(into) != 1 or os.preadv(self.fd, into, offset) != len(into[0]):
            self._whole(os.preadv, into, offset, at_end=iov.zero)

    def read_now(self, into: Buffers, offset: int) -> bool:
        """Reads from the page cache, never waiting for a disk. True: every byte is filled. False: call
        `read`, which also reports errors."""
        if not self._read_now or len(into) > MAX_VECTORS:
            return False
        try:
            return os.preadv(self.fd, into, offset, os.RWF_NOWAIT) == iov.length(into)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # tmpfs lacks RWF_NOWAIT
                self._read_now = False
            return False

    def write(self, data: Buffers, offset: int) -> None:
        self._write(os.pwritev, data, offset)

    def write_durable(self, data: Buffers, offset: int) -> None:
        self._write(_pwritev_dsync, data, offset)

    def _write(self, call: Transfer, data: Buffers, offset: int) -> None:
        if self.backing.borrowed:  # the filter `cow` commits into the file it has only read so far
            self.backing.own()
        if self.direct and not self._aligned(data):
            bounce = aligned_memory(iov.length(data))
            bounce[:] = iov.gather(data)
            data = [bounce]
        if len(data) != 1 or call(self.fd, data, offset) != len(data[0]):
            self._whole(call, data, offset, at_end=_no_space)

    def _whole(
        self, call: Transfer, buffers: Buffers, offset: int, at_end: Callable[[Buffers], None]
    ) -> None:
        """Repeats a call until every buffer is done: it may end early, and takes IOV_MAX buffers at most."""
        left, total = buffers, iov.length(buffers)
        while total:
            done = call(self.fd, left[:MAX_VECTORS], offset)
            offset, total = offset + done, total - done
            left = iov.cut(left, done, total)
            if total and (done == 0 or (self.direct and done % self.block_size)):
                return at_end(left)  # end of file; or mid-block, where O_DIRECT cannot continue
        return None

    def _aligned(self, buffers: Buffers) -> bool:
        """O_DIRECT needs whole blocks on page boundaries: the ring's buffers are, a filter's may not be. An
        empty buffer has no address, and needs none."""
        return all(
            not buffer.readonly
            and address(buffer) % mmap.PAGESIZE == 0
            and len(buffer) % self.block_size == 0
            for buffer in buffers
            if len(buffer)
        )

    def flush(self) -> None:
        os.fdatasync(self.fd)

    def unmap(self, offset: int, length: int) -> None:
        """Zeroes are promised (LBPRZ). A block device that could punch holes when it was opened may have lost
        that: the kernel turns it off for good after one WRITE ZEROES that the device refused."""
        self.write_zeroes(offset, length, unmap=True)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """Some file systems lack one of the modes (tmpfs: ZERO_RANGE): tries both, then writes zeroes."""
        for mode in (PUNCH_HOLE, ZERO_RANGE) if unmap else (ZERO_RANGE, PUNCH_HOLE):
            try:
                return fallocate(self.fd, mode | KEEP_SIZE, offset, length)
            except OSError as error:
                # EINVAL: a block device with sectors larger than the disk's blocks
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        for at in range(offset, offset + length, len(ZEROES)):
            self.write([ZEROES[: offset + length - at]], at)
        return None

    def identity(self) -> str:
        return identity_of(self.fd, str(self.backing.path))

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return file_facts.extents(self.fd, offset, length, self.block_size)

    def space(self) -> Space:
        """The file's blocks, and what its file system has free."""
        system = os.fstatvfs(self.fd)
        return Space(os.fstat(self.fd).st_blocks * STAT_BLOCK, system.f_bavail * system.f_frsize)


def _capabilities(backing: Backing, block_size: int) -> Capabilities:
    is_file = not backing.is_block  # block devices have no SEEK_DATA and take no space of a file system
    if backing.read_only:
        return Capabilities(extents=is_file)
    unmap = backing.punches_holes(block_size)
    return Capabilities(
        write=True, flush=True, unmap=unmap, unmap_reads_zero=unmap, write_zeroes=True, extents=is_file,
        space=is_file and unmap,
    )  # fmt: skip


def _pwritev_dsync(fd: int, data: Buffers, offset: int) -> int:
    return os.pwritev(fd, data, offset, os.RWF_DSYNC)


def _no_space(_left: Buffers) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
