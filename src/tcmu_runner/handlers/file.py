"""`file//absolute/path`: a disk in a file or on a block device."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Extent, Handler
from tcmu_runner.handler.config import parse_options
from tcmu_runner.handlers.syscalls import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, address, fallocate
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.units import format_size

MAX_VECTORS = os.sysconf("SC_IOV_MAX")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """direct: bypass the page cache (O_DIRECT). read_only: never write, the file must exist."""

    path: str
    direct: bool = False
    read_only: bool = False


class FileHandler(Handler[FileOptions]):
    """file/PATH[;direct][;read_only]
    A disk in a file or on a block device, PATH absolute, for example file//srv/disk.img. A missing file is
    created, sparse; a file shorter than the disk grows, a longer one keeps its tail.
      direct     bypass the page cache (O_DIRECT)
      read_only  the disk is write-protected and the file must exist
    """

    subtype = "file"
    threads = 4

    def __init__(self, fd: int, options: FileOptions, can: Capabilities, *, is_block: bool) -> None:
        self.fd = fd
        self.options = options
        self.can = can
        self.is_block = is_block
        self._read_now = True

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
    def open(cls, device: Device, config: FileOptions) -> FileHandler:
        fd = cls._open(config)
        try:
            is_block = _check_kind(fd, config)
            _fit(fd, config, device.size, is_block=is_block)
            if config.direct:
                _check_direct(fd, config, device.block_size)
            return cls(fd, config, _capabilities(fd, config), is_block=is_block)
        except BaseException:
            os.close(fd)
            raise

    @staticmethod
    def _open(config: FileOptions) -> int:
        flags = os.O_RDONLY if config.read_only else os.O_RDWR | os.O_CREAT
        if config.direct:
            flags |= os.O_DIRECT
        if config.path.startswith("/dev/"):
            flags &= ~os.O_CREAT  # a missing device node must not become a file in memory
        return os.open(config.path, flags | os.O_CLOEXEC, 0o600)

    def capabilities(self) -> Capabilities:
        return self.can

    def close(self) -> None:
        os.close(self.fd)

    def read(self, into: Buffers, offset: int) -> None:
        if len(into) == 1 and os.preadv(self.fd, into, offset) == len(into[0]):
            return
        self._whole(os.preadv, into, offset, at_end=iov.zero)

    def read_now(self, into: Buffers, offset: int) -> bool:
        """From the page cache, never waiting for a disk; False where that is not possible."""
        if not self._read_now or len(into) > MAX_VECTORS:
            return False
        try:
            return os.preadv(self.fd, into, offset, os.RWF_NOWAIT) == iov.length(into)
        except BlockingIOError:
            return False
        except OSError:
            self._read_now = False  # the file system has no RWF_NOWAIT (tmpfs before Linux 6.6)
            return False

    def write(self, data: Buffers, offset: int) -> None:
        if len(data) == 1 and os.pwritev(self.fd, data, offset) == len(data[0]):
            return
        self._whole(os.pwritev, data, offset, at_end=_no_space)

    def write_durable(self, data: Buffers, offset: int) -> None:
        def pwritev(fd: int, buffers: Buffers, at: int) -> int:
            return os.pwritev(fd, buffers, at, os.RWF_DSYNC)

        self._whole(pwritev, data, offset, at_end=_no_space)

    def _whole(
        self, call: Callable[[int, Buffers, int], int], buffers: Buffers, offset: int,
        at_end: Callable[[Buffers], None],
    ) -> None:  # fmt: skip
        """Repeats a call until every buffer is done: it may stop early, and takes 1024 buffers at most."""
        if self.options.direct and not _aligned(buffers):
            return self._bounced(call, buffers, offset, at_end)
        left, total = buffers, iov.length(buffers)
        while total:
            done = call(self.fd, left[:MAX_VECTORS], offset)
            if done == 0:
                return at_end(left)
            offset, total = offset + done, total - done
            left = iov.cut(left, done, total)
        return None

    def _bounced(
        self, call: Callable[[int, Buffers, int], int], buffers: Buffers, offset: int,
        at_end: Callable[[Buffers], None],
    ) -> None:  # fmt: skip
        """O_DIRECT wants page-aligned memory; the ring's is, a buffer made by a command is not."""
        with mmap.mmap(-1, iov.length(buffers)) as memory, memoryview(memory) as aligned:
            aligned[:] = iov.gather(buffers)
            self._whole(call, [aligned], offset, at_end)
            iov.scatter(buffers, aligned)

    def flush(self) -> None:
        os.fdatasync(self.fd)

    def unmap(self, offset: int, length: int) -> None:
        fallocate(self.fd, PUNCH_HOLE | KEEP_SIZE, offset, length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """A file system without one way of zeroing (tmpfs: no ZERO_RANGE) has the other, or takes zeroes."""
        for mode in (PUNCH_HOLE, ZERO_RANGE) if unmap else (ZERO_RANGE, PUNCH_HOLE):
            try:
                return fallocate(self.fd, mode | KEEP_SIZE, offset, length)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
        with memoryview(iov.ZEROES) as zeroes:
            for at in range(offset, offset + length, len(zeroes)):
                self.write([zeroes[: offset + length - at]], at)
        return None

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        end = offset + length
        while offset < end:
            data = self._seek(offset, os.SEEK_DATA, end)
            if data > offset:
                yield Extent(offset, data - offset, mapped=False)
            if data < end:
                hole = self._seek(data, os.SEEK_HOLE, end)
                yield Extent(data, hole - data, mapped=True)
                data = hole
            offset = data

    def _seek(self, offset: int, whence: int, end: int) -> int:
        try:
            return min(os.lseek(self.fd, offset, whence), end)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            raise

    def resize(self, size: int) -> None:
        _fit(self.fd, self.options, size, is_block=self.is_block)


def _check_kind(fd: int, config: FileOptions) -> bool:
    """Whether it is a block device; anything but that or a plain file is refused."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(errno.EINVAL, f"{config.path} is neither a file nor a block device")
    return stat.S_ISBLK(mode)


def _fit(fd: int, config: FileOptions, size: int, *, is_block: bool) -> None:
    """Makes the file at least as long as the disk. It is never cut: a smaller disk leaves the tail alone."""
    present = os.lseek(fd, 0, os.SEEK_END)
    if present >= size:
        return
    if is_block or config.read_only:
        raise OSError(
            errno.EINVAL,
            f"{config.path} has {format_size(present)} and cannot grow to the disk's {format_size(size)}: "
            f"set dev_size to {present} or less",
        )
    os.ftruncate(fd, size)


def _check_direct(fd: int, config: FileOptions, block_size: int) -> None:
    """One read of one block tells whether O_DIRECT works at this block size."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory, memoryview(memory) as view:
        try:
            os.preadv(fd, [view[:block_size]], 0)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{config.path} cannot be read directly in blocks of {block_size} bytes ({error.strerror}): "
                "set hw_block_size=4096, or leave out the option direct",
            ) from error


def _capabilities(fd: int, config: FileOptions) -> Capabilities:
    everything = Capabilities(
        write=True, flush=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=True
    )
    if config.read_only:
        return Capabilities(extents=True)
    if _punches_holes(fd):
        return everything
    return replace(everything, unmap=False, unmap_reads_zero=False)


def _punches_holes(fd: int) -> bool:
    """Tried on a file behind its end, where there is nothing to lose; asked of a block device's queue."""
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        queue = Path(f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}/queue")
        limit = queue / "write_zeroes_max_bytes"
        return limit.exists() and int(limit.read_text()) > 0
    try:
        fallocate(
            fd, PUNCH_HOLE | KEEP_SIZE, -(-status.st_size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.PAGESIZE
        )
    except OSError:
        return False
    return True


def _aligned(buffers: Buffers) -> bool:
    return all(address(buffer) % mmap.PAGESIZE == 0 for buffer in buffers)


def _no_space(_left: Buffers) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
