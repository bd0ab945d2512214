"""System calls for direct and sparse I/O that the os module lacks: fallocate(2), and buffer addresses."""

import ctypes
import errno
import os

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Blocks, without the GIL. Raises OSError, EOPNOTSUPP if the file system or device lacks the mode."""
    while _fallocate(fd, mode, offset, length):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


class IoVec(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def vector(buffers: list[memoryview]) -> ctypes.Array[IoVec]:
    """An iovec array. The buffers are writable, and must live as long as the call."""
    return (IoVec * len(buffers))(*[IoVec(address(buffer), len(buffer)) for buffer in buffers])


def writable(buffers: list[memoryview]) -> list[memoryview]:
    """Replaces read-only buffers with copies: Python gives addresses of writable ones only."""
    return [memoryview(bytearray(buffer)) if buffer.readonly else buffer for buffer in buffers]


def address(buffer: memoryview) -> int:
    """The memory address of a writable buffer: O_DIRECT needs it aligned."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
