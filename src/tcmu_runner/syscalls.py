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


class IoVec(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def vector(buffers: list[memoryview]) -> ctypes.Array[IoVec]:
    """For calls that take an iovec. Buffers are writable and at least as long-lived as the call."""
    return (IoVec * len(buffers))(*[IoVec(address(buffer), len(buffer)) for buffer in buffers])


def writable(buffers: list[memoryview]) -> list[memoryview]:
    """Copies of those that are not: only what can be written has an address in Python."""
    return [memoryview(bytearray(buffer)) if buffer.readonly else buffer for buffer in buffers]


def address(buffer: memoryview) -> int:
    """Where a writable buffer lies in memory: O_DIRECT wants it aligned."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
