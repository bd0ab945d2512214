"""`glfs/volume@host/path`: a disk in a file of a Gluster volume."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import threading
import uuid
from collections.abc import Callable
from ctypes import c_void_p
from dataclasses import dataclass
from typing import ClassVar

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Handler
from tcmu_runner.handler.config import Number, parse_options, unescape_address
from tcmu_runner.handlers import libgfapi
from tcmu_runner.handlers.libgfapi import failure
from tcmu_runner.iov import Buffers
from tcmu_runner.syscalls import IoVec, vector, writable

PORT = 24007  # glusterd
MAX_VECTORS = os.sysconf("SC_IOV_MAX")
GFID = 16  # bytes (GFAPI_HANDLE_LENGTH)
STAT = 512  # bytes, more than struct stat has anywhere
STALE = {errno.EBADF, errno.EBADFD, errno.ESTALE}  # of a descriptor opened before a brick restarted

Transfer = Callable[[c_void_p, "ctypes.Array[IoVec]", int, int, int], int]


@dataclass(frozen=True, slots=True)
class GlfsOptions:
    """place: VOLUME@HOST/PATH. port: of glusterd. log: a file; None: no log."""

    place: str
    port: Number = PORT
    log: str | None = None

    @property
    def volume(self) -> str:
        return self.place.partition("@")[0]

    @property
    def host(self) -> str:
        return unescape_address(self.place.partition("@")[2].partition("/")[0]).strip("[]")

    @property
    def path(self) -> str:
        return "/" + self.place.partition("@")[2].partition("/")[2]


class GlfsHandler(Handler[GlfsOptions]):
    """glfs/VOLUME@HOST/PATH[;OPTION...]

    A disk in a file of a Gluster volume; PATH is the path in the volume, without its first slash. A missing
    file is created, sparse, for a new LUN; its directory has to exist. A file shorter than the disk grows, a
    longer one keeps its tail. UNMAP gives the space back. Needs libgfapi (Debian: libgfapi0).

      port  of glusterd at HOST (24007)
      log   the file for libgfapi's error messages; none by default

    While too few bricks can be reached commands end in BUSY, so that initiators send them again; the library
    reconnects by itself. Caching of writes in this host's memory is switched off: an answered write is on
    the bricks.

    Examples: glfs/vol1@storage1/disks/a.img  glfs/vol1@storage1/block-store/a;log=/var/log/gfapi.log
    """

    subtype = "glfs"
    threads: ClassVar[int] = 16

    def __init__(self, options: GlfsOptions) -> None:
        self._library = libgfapi.load()
        self._options = options
        self._volume = volume(options.volume, options.host, options.port, options.log)
        self._file = c_void_p()
        self._opening = threading.Lock()
        self._replaced: list[c_void_p] = []  # stale descriptors; calls on other threads may still use them

    @classmethod
    def parse(cls, config: str) -> GlfsOptions:
        options = parse_options(GlfsOptions, config, first="place")
        if not (options.volume and options.host and options.path.strip("/")) or options.path.endswith("/"):
            raise ConfigError(f"{options.place!r} names no file of a volume: write glfs/VOLUME@HOST/PATH")
        if not 0 < options.port < 1 << 16:
            raise ConfigError(f"option port={options.port}: write a TCP port, glusterd's is {PORT}")
        if options.log is not None and not options.log.startswith("/"):
            raise ConfigError(f"option log={options.log}: write an absolute path")
        return options

    @classmethod
    def probe(cls, config: GlfsOptions) -> int | None:
        handler = cls(config)
        try:
            handler._file = handler._open_file()
            return handler._length()
        except FileNotFoundError:
            return None
        finally:
            handler.close()

    @classmethod
    def open(cls, device: Device, config: GlfsOptions) -> GlfsHandler:
        handler = cls(config)
        try:
            handler._file = handler._open_file(device)
            handler.resize(device.size)
        except BaseException:
            handler.close()
            raise
        return handler

    def _open_file(self, maker: Device | None = None) -> c_void_p:
        """maker: the LUN for which a missing file is created; None: the file has to exist."""
        library, path = self._library, self._options.path.encode()
        found = library.glfs_open(self._volume, path, os.O_RDWR)
        if not found and maker is not None and ctypes.get_errno() == errno.ENOENT:
            where = f"{self._options.path} in volume {self._options.volume!r}"
            maker.missing(where, "mount the volume, and make it with truncate")
            found = library.glfs_creat(self._volume, path, os.O_RDWR | os.O_EXCL, 0o600)
        if not found:
            error = failure(f"{self._options.path} in volume {self._options.volume!r}")
            raise OSError(error.errno, f"{error.strerror}: create its directory, or correct the path")
        return c_void_p(found)

    def close(self) -> None:
        for file in (*self._replaced, self._file):
            if file:
                self._library.glfs_close(file)

    def identity(self) -> str:
        """The gfid: the same on all bricks, and kept when the file is renamed."""
        library, options = self._library, self._options
        gfid, status = ctypes.create_string_buffer(GFID), ctypes.create_string_buffer(STAT)
        found = library.glfs_h_lookupat(self._volume, None, options.path.encode(), status, 1)
        if not found:
            raise failure(f"{options.path} in volume {options.volume!r}")
        try:
            if library.glfs_h_extract_handle(found, gfid, GFID) != GFID:
                raise failure(f"gfid of {options.path} in volume {options.volume!r}")
        finally:
            library.glfs_h_close(found)
        return f"gfid {uuid.UUID(bytes=gfid.raw)} in volume {options.volume}"

    def read(self, into: Buffers, offset: int) -> None:
        """Bytes beyond the end of the file read as zeroes."""
        left = self._whole(self._library.glfs_preadv, into, offset)
        iov.zero(left)

    def write(self, data: Buffers, offset: int) -> None:
        if self._whole(self._library.glfs_pwritev, writable(data), offset):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_durable(self, data: Buffers, offset: int) -> None:
        self.write(data, offset)
        self.flush()

    def _whole(self, call: Transfer, buffers: Buffers, offset: int) -> Buffers:
        """Repeats a call until every buffer is done; returns the buffers left at the end of the file."""
        left, total = buffers, iov.length(buffers)
        while total:
            some = left[:MAX_VECTORS]
            place = offset
            done = self._do("transfer", lambda file: call(file, vector(some), len(some), place, 0))  # noqa: B023
            if not done:
                return left
            offset, total = offset + done, total - done
            left = iov.cut(left, done, total)
        return []

    def _do(self, what: str, call: Callable[[c_void_p], int]) -> int:
        """Calls with the file's descriptor; if that is stale, once more with a new one."""
        file = self._file
        result = call(file)
        if result < 0 and ctypes.get_errno() in STALE:
            result = call(self._reopened(file))
        if result < 0:
            raise failure(f"{what} in Gluster volume {self._options.volume!r}")
        return result

    def _reopened(self, stale: c_void_p) -> c_void_p:
        with self._opening:
            if self._file is stale:
                self._file = self._open_file()
                self._replaced.append(stale)
            return self._file

    def flush(self) -> None:
        self._do("flush", lambda file: self._library.glfs_fsync(file, None, None))

    def unmap(self, offset: int, length: int) -> None:
        self._do("discard", lambda file: self._library.glfs_discard(file, offset, length))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        if unmap:
            self.unmap(offset, length)
        else:
            self._do("zerofill", lambda file: self._library.glfs_zerofill(file, offset, length))

    def resize(self, size: int) -> None:
        """A shorter file grows; a longer one is not cut."""
        if self._length() < size:
            self._do("resize", lambda file: self._library.glfs_ftruncate(file, size, None, None))

    def _length(self) -> int:
        return self._do("size", lambda file: self._library.glfs_lseek(file, 0, os.SEEK_END))


_connecting = threading.Lock()


def volume(name: str, host: str, port: int, log: str | None) -> c_void_p:
    """A connection to a volume, shared by all LUNs of this process until it ends. Raises OSError."""
    with _connecting:
        return _volume(name, host, port, log, os.getpid())


@functools.cache
def _volume(name: str, host: str, port: int, log: str | None, _process: int) -> c_void_p:
    """Never closed: glfs_fini() takes ten seconds even without work (10.3), and a worker process ends when
    its LUN is closed. Closing a file puts its writes on the bricks. _process: part of the cache's key, since
    a forked process has none of the connection's threads and needs its own."""
    library = libgfapi.load()
    made = c_void_p(library.glfs_new(name.encode()))
    library.glfs_set_volfile_server(made, b"tcp", host.encode(), port)
    library.glfs_set_logging(made, (log or "/dev/null").encode(), libgfapi.LOG_ERROR)
    library.glfs_set_xlator_option(made, b"*-write-behind", b"pass-through", b"true")
    if library.glfs_init(made):
        error = failure(f"volume {name!r} of {host}")
        library.glfs_fini(made)
        raise OSError(
            error.errno or errno.ENOTCONN,
            f"{error.strerror}: see that the volume is started, and that its name and host are right",
        )
    return made
