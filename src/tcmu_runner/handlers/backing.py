"""The file or block device that holds a disk: opened with a lock, grown to the disk's size, never
truncated."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import suppress
from pathlib import Path

from tcmu_runner import files
from tcmu_runner.handler import Device
from tcmu_runner.handlers.claims import claim, in_use, lun_with
from tcmu_runner.syscalls import KEEP_SIZE, PUNCH_HOLE, fallocate
from tcmu_runner.units import format_size

_REMEDIES = {
    errno.ENOTDIR: "correct the path",
    errno.EACCES: "give the daemon's user access to it",
    errno.EPERM: "give the daemon's user access to it",
    errno.EROFS: "add the option read_only, or mount the file system writable",
    errno.EBUSY: "it is mounted or part of another device; free it, or add the option read_only",
    errno.ENOSPC: "free space on its file system",
    errno.EDQUOT: "raise the quota",
    errno.EFBIG: "its file system has no files that long; set a smaller dev_size",
    errno.ENXIO: "no device is behind this node; correct the path",
    errno.ENOMEDIUM: "insert a medium",
}


class Backing:
    """path: as configured. fd: its file position is never used, so threads may share it. borrowed: other
    processes may read the file, too, until `own`; call that before the first write.

    Methods raise OSError; its text names the path and the way out.
    """

    def __init__(self, path: Path, fd: int, device: Device, *, read_only: bool) -> None:
        self.path = path
        self.fd = fd
        self.read_only = read_only
        self.borrowed = False
        self._device = device
        self.is_block = stat.S_ISBLK(os.fstat(fd).st_mode)

    @classmethod
    def open(
        cls,
        path: Path,
        device: Device,
        *,
        read_only: bool = False,
        direct: bool = False,
        shared: bool = False,
    ) -> Backing:
        """Creates a missing file, unless this LUN was served with it before; removes it again if a later step
        fails. Locks the file; claims a block device that is to be written (O_EXCL), so that a mounted one is
        refused and the device cannot be mounted later. shared: other LUNs may write to it, too."""
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_DIRECT if direct else 0)
        alone = device.written and not (read_only or shared)
        mode = _mode(path)
        created = None if mode else _place_for(path, read_only=read_only)
        if created:
            device.missing(str(path), f"truncate -s {device.size} {path}")
            fd = _create(created, flags)
        else:
            fd = _open_present(path, flags, mode, device, alone=alone)
        backing = cls(path, fd, device, read_only=read_only)
        try:
            claim(fd, path, device, shared=not alone)
            backing.borrowed = not (alone or shared or read_only)
            backing.fit(device.size, device.block_size)
            if direct:
                backing.try_direct(device.block_size)
        except BaseException:
            backing.close()
            if created:
                created.unlink()
            raise
        return backing

    def close(self) -> None:
        os.close(self.fd)

    def own(self) -> None:
        """Makes the shared lock exclusive. Raises OSError EBUSY while others have the file open."""
        claim(self.fd, self.path, self._device, shared=False)
        self.borrowed = False

    def fit(self, size: int, block_size: int) -> None:
        """Makes the file at least as long as the disk. A longer file keeps its tail."""
        present = os.lseek(self.fd, 0, os.SEEK_END)
        if present >= size:
            return
        if self.is_block or self.read_only:
            raise OSError(
                errno.EINVAL,
                f"{self.path} has {present} bytes ({format_size(present)}), not {size}, and cannot grow: "
                f"set dev_size to {present // block_size * block_size} or less",
            )
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise _explained(error, self.path) from None

    def try_direct(self, block_size: int) -> None:
        """Reads one block: raises OSError if O_DIRECT does not work with this block size."""
        try:
            os.preadv(self.fd, [aligned_memory(block_size)], 0)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path} cannot be read directly in blocks of {block_size} bytes ({error.strerror}): "
                "set hw_block_size=4096, or leave out the option direct",
            ) from None

    def punches_holes(self, block_size: int) -> bool:
        """Whether space can be freed block by block, and reads as zeroes afterwards. Tried on a file beyond
        its end, where there is no data; for a block device the kernel's queue limits say it."""
        if self.is_block:
            whole_sectors = block_size % (self._queue_limit("logical_block_size") or block_size) == 0
            return whole_sectors and self._queue_limit("write_zeroes_max_bytes") > 0
        behind = -(-os.lseek(self.fd, 0, os.SEEK_END) // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            fallocate(self.fd, PUNCH_HOLE | KEEP_SIZE, behind, mmap.PAGESIZE)
        except OSError:
            return False
        return True

    def _queue_limit(self, name: str) -> int:
        """0 if the kernel has no such limit."""
        number = os.fstat(self.fd).st_rdev
        node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        for queue in (node / "queue", node / "../queue"):  # a partition has its disk's
            with suppress(OSError, ValueError):
                return int((queue / name).read_text())
        return 0


def aligned_memory(size: int) -> memoryview:
    """Zeroed memory on a page boundary, as O_DIRECT needs it; freed with its last view."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def hold(path: Path, device: Device, *, shared: bool) -> int:
    """Opens a file or block device only to lock it, for another program that does the I/O. Returns a
    descriptor; the lock ends when its last copy is closed, also that of a child. shared: other LUNs may write
    to it, too. Raises OSError, EBUSY where another LUN or process has it."""
    fd = _open_present(path, os.O_RDONLY, _mode(path), device, alone=not shared)
    try:
        claim(fd, path, device, shared=shared)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mode(path: Path) -> int:
    """st_mode of the path, 0 if nothing is there. Called before open(), which would block on a FIFO."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _explained(error, path) from None
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, f"{path} is a directory: name a file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(errno.EINVAL, f"{path} is neither a file nor a block device: correct the path")
    return mode


def _place_for(path: Path, *, read_only: bool) -> Path:
    """The path for a missing file, links resolved; raises OSError where a file must not be created."""
    if read_only:
        raise OSError(
            errno.ENOENT, f"{path} does not exist: correct the path, or leave out the option read_only"
        )
    place = path.resolve()
    if not place.parent.is_dir():
        raise OSError(errno.ENOENT, f"{path}: {place.parent} does not exist: create it, or correct the path")
    devices = Path("/dev")
    if devices in place.parents and place.parent.stat().st_dev == devices.stat().st_dev:
        raise OSError(
            errno.ENOENT,
            f"{path} does not exist, and a file among the device nodes would fill the memory: "
            "bring the device up, or correct the path",
        )
    return place


def _create(place: Path, flags: int) -> int:
    try:
        fd = _open(place, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        raise
    except OSError:
        place.unlink(
            missing_ok=True
        )  # without O_DIRECT support the kernel creates the file before it refuses
        raise
    files.keep_names(place.parent)
    return fd


def _open_present(path: Path, flags: int, mode: int, device: Device, *, alone: bool) -> int:
    is_block = stat.S_ISBLK(mode)
    try:
        return _open(path, flags | (os.O_EXCL if is_block and alone else 0))
    except OSError as error:
        if is_block and error.errno == errno.EBUSY and (lun := lun_with(path, device.name)):
            raise in_use(path, lun) from None
        raise


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if flags & os.O_DIRECT and error.errno == errno.EINVAL:
            raise OSError(
                error.errno, f"{path}: its file system has no direct I/O: leave out the option direct"
            ) from None
        raise _explained(error, path) from None


def _explained(error: OSError, path: Path) -> OSError:
    remedy = _REMEDIES.get(error.errno or 0, "correct the path, or mend the storage")
    return OSError(error.errno, f"{path}: {error.strerror}: {remedy}")
