"""Memory for key material: locked, in no core dump, in no child process, zeroed when it is wiped."""

from __future__ import annotations

import ctypes
import mmap
import os
from types import TracebackType
from typing import Self

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_BYTES_HEADER = bytes.__basicsize__ - 1  # where the content of a bytes object begins

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Secret:
    """Bytes in pages of their own. view: those bytes. The owner ends it by `with` or `wipe`."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_DONTDUMP)
        self._memory.madvise(mmap.MADV_DONTFORK)
        self.view = memoryview(self._memory)[:size]
        # Above RLIMIT_MEMLOCK this fails, and the pages stay unlocked.
        _libc.mlock(address(memoryview(self._memory)), len(self._memory))

    @classmethod
    def taken_from(cls, data: bytes) -> Self:
        """Copies what a library returned, and zeroes `data`, to which nothing else may refer."""
        secret = cls(len(data))
        secret.view[:] = data
        ctypes.memset(id(data) + _BYTES_HEADER, 0, len(data))
        return secret

    @classmethod
    def random(cls, size: int) -> Self:
        return cls.taken_from(os.urandom(size))

    def __len__(self) -> int:
        return len(self.view)

    def wipe(self) -> None:
        """Zeroes the bytes and frees the pages. May be called again."""
        if not self._memory.closed:
            self.view[:] = bytes(len(self.view))
            self.view.release()
            self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.wipe()


def address(buffer: memoryview) -> int:
    """Returns the address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def forbid_core_dumps() -> None:
    """Forbids core dumps of this process, for good, and ptrace by processes of the same user. OpenSSL keeps
    copies of the key in memory that is not a Secret, so DONTDUMP is not enough."""
    _libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0)


def pages(size: int) -> memoryview:
    """Returns plain memory on a page boundary, as direct I/O needs it; freed with its last view."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
