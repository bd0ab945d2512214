"""What direct and sparse I/O needs and the os module lacks: fallocate(2), and where a buffer lies."""

import ctypes
import errno
import os

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Blocks, without the GIL. OSError EOPNOTSUPP where the file system or device cannot do the mode."""
    while _fallocate(fd, mode, offset, length):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def address(buffer: memoryview) -> int:
    """Where a writable buffer lies in memory: O_DIRECT wants it aligned."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
