"""UIO devices: the shared memory, event counter and doorbell of a TCMU backstore (drivers/uio/uio.c)."""

import errno
import mmap
import os
import re
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tcmu_runner.errors import TransportGoneError
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.sysfs import KernelFileError
from tcmu_runner.ring.layout import HEAD, MAILBOX_LENGTH, TAIL

_NAME = re.compile(r"tcm-user/([0-9]+)/([^/]+)(?:/(.*))?", re.DOTALL)
_COUNT = struct.Struct("=i")
_ONE = _COUNT.pack(1)
_GONE = (errno.EIO, errno.EINVAL)  # of read and write once the device is unregistered


class UioError(KernelFileError):
    """A UIO device cannot be used."""


class DeviceGone(UioError, TransportGoneError):  # noqa: N818 - says what happened
    """The kernel has removed the device: close it."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENODEV, f"{path.name} is gone: its backstore was removed", path)


@dataclass(frozen=True, slots=True)
class DeviceName:
    """The name of a TCMU UIO device: `tcm-user/<hba>/<device>[/<config>]`.

    Its backstore is core/user_<hba>/<device>. `config` is empty where no dev_config was set. `str()` gives
    the name back.
    """

    hba: int
    device: str
    config: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError for the name of a device of another driver."""
        name = _NAME.fullmatch(text.rstrip("\n"))
        if name is None:
            raise ValueError(f"{text!r} is not the name of a TCMU device, tcm-user/<hba>/<device>/<config>")
        return cls(int(name[1]), name[2], name[3] or "")

    def __str__(self) -> str:
        return f"tcm-user/{self.hba}/{self.device}" + (f"/{self.config}" if self.config else "")


@dataclass(frozen=True, slots=True)
class UioEntry:
    """One TCMU device. minor: the N of uioN; the kernel reuses it after a removal."""

    minor: int
    name: DeviceName


def scan(paths: Paths) -> list[UioEntry]:
    """The TCMU devices that exist now, by minor; devices removed meanwhile are left out."""
    try:
        directories = list(paths.uio.iterdir())
    except FileNotFoundError:  # no UIO driver is loaded
        return []
    entries = (_entry(directory) for directory in directories)
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.minor)


def _entry(directory: Path) -> UioEntry | None:
    number = re.fullmatch(r"uio(\d+)", directory.name, re.ASCII)
    if number is None:
        return None
    try:
        return UioEntry(int(number[1]), DeviceName.parse(sysfs.read(directory / "name")))
    except (OSError, ValueError):
        return None


class UioDevice:
    """An open /dev/uioN. Owns `fd`, which it opened itself or got over a socket.

    The kernel allows one opener: the device counts as open until the descriptor, its duplicates and every
    mapping are gone, in all processes.
    """

    def __init__(self, minor: int, fd: int, paths: Paths = SYSTEM) -> None:
        self.minor = minor
        self._fd = fd
        self._paths = paths
        self._node = paths.dev / f"uio{minor}"

    @classmethod
    def open(cls, minor: int, paths: Paths = SYSTEM) -> Self:
        """Raises DeviceGone, or UioError: its text names the process that has the device open."""
        node = paths.dev / f"uio{minor}"
        try:
            _make_node(node, paths.uio / node.name / "dev")
            fd = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise DeviceGone(node) from None
        except OSError as error:
            raise _explained(error, "opened", node, paths) from error
        return cls(minor, fd, paths)

    def map(self) -> mmap.mmap:
        """Maps mailbox, ring and data area, shared; forked children do not inherit the mapping.

        Touch only the mailbox, the ring and what the iovs of commands under way name: SIGBUS elsewhere.
        """
        size_file = self._paths.uio / self._node.name / "maps/map0/size"
        try:
            size = int(sysfs.read(size_file), 16)
            area = mmap.mmap(self._fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except FileNotFoundError:
            raise DeviceGone(self._node) from None
        except OSError as error:
            raise _explained(error, "mapped", self._node, self._paths) from error
        area.madvise(mmap.MADV_DONTFORK)
        return area

    def kick(self) -> None:
        """Rings the doorbell: the kernel processes the published completions. Raises DeviceGone.

        It does so within this call, copying the data of reads, under locks that also delay the submission of
        new commands: call it once for a batch. On any thread; releases the interpreter lock.
        """
        try:
            os.write(self._fd, _ONE)
        except OSError as error:
            raise self._gone_or(error) from error

    def acknowledge(self) -> int | None:
        """Reads the UIO event counter: the total number of events, or None if none is new. Raises DeviceGone.

        Commands queued before `open` cause no event: read the ring once after `map`.
        """
        try:
            (count,) = _COUNT.unpack(os.read(self._fd, _COUNT.size))
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone_or(error) from error
        return int(count)

    def fileno(self) -> int:
        """Readable while there are unread events; for ever, with POLLERR, once the device is gone."""
        return self._fd

    def close(self) -> None:
        """Closes the descriptor; the caller closes mappings."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _gone_or(self, error: OSError) -> OSError:
        return DeviceGone(self._node) if error.errno in _GONE else error


def _make_node(node: Path, dev_file: Path) -> None:
    """Makes the device node where no devtmpfs does, and refuses a node that is left from another boot."""
    numbers = sysfs.read(dev_file)
    device = os.makedev(*map(int, numbers.split(":")))
    try:
        found = node.stat()
    except FileNotFoundError:
        with suppress(FileExistsError):  # devtmpfs was about to
            os.mknod(node, stat.S_IFCHR | 0o600, device)
    else:
        if found.st_rdev != device:
            raise OSError(errno.ENXIO, f"it is not device {numbers}; remove it, and it will be made anew")


def _explained(error: OSError, doing: str, node: Path, paths: Paths) -> UioError:
    text = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        holders = _holders(node, paths.proc) or "a process that cannot be seen from here"
        text = f"it is in use by {holders}; stop that daemon, or its worker that still maps the device"
    elif error.errno in (errno.EACCES, errno.EPERM):
        text += "; run as root"
    name = _name(paths.uio / node.name)
    return UioError(error.errno or errno.EIO, f"{name}: {node.name} cannot be {doing}: {text}", node)


def _name(directory: Path) -> str:
    try:
        return sysfs.read(directory / "name")
    except OSError:
        return "TCMU device"


def _holders(node: Path, proc: Path) -> str:
    """The processes that have `node` open, as 'tcmu-runner (pid 12), …'; empty if none is visible."""
    found = {}
    for link in sysfs.find(proc, "[0-9]*/fd/*"):
        try:
            if link.readlink() == node:
                process = link.parent.parent
                found[process.name] = sysfs.read(process / "comm")
        except OSError:  # it ended meanwhile
            continue
    return ", ".join(f"{comm} (pid {pid})" for pid, comm in found.items())


class RingActivity:
    """Reads a ring's head and tail in the mailbox: shows whether commands come or end, without a system call
    and without waking the worker, until `close`.

    Its mapping keeps the kernel's device alive: call `close` before that of `uio`. Raises DeviceGone,
    UioError or OSError.
    """

    def __init__(self, uio: UioDevice) -> None:
        self._area = uio.map()
        self._words = memoryview(self._area)[:MAILBOX_LENGTH].cast("I")
        self._seen = (0, 0)

    def stirs(self) -> bool:
        """Whether commands wait on the ring, or any came or ended since the last call."""
        before, self._seen = self._seen, (self._words[HEAD], self._words[TAIL])
        head, tail = self._seen
        return head != tail or self._seen != before

    def close(self) -> None:
        self._words.release()
        self._area.close()
