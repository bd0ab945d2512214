"""Single SCSI commands by Linux's ioctl SG_IO, from this process: a hundred take as long as one sg_raw."""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.cdbs import Answer, Send

SG_IO = 0x2285  # scsi/sg.h
NO_DATA, DATA_OUT, DATA_IN = -1, -2, -3
TIMEOUT = 120_000  # milliseconds


class _Header(ctypes.Structure):
    """struct sg_io_hdr"""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


@contextmanager
def commands(disk: Path) -> Iterator[Send]:
    """Sends commands to /dev/sdX, which is only opened for reading: it may be write-protected."""
    fd = os.open(disk, os.O_RDONLY | os.O_NONBLOCK)

    def by_ioctl(cdb: bytes, *, send: bytes = b"", receive: int = 0) -> Answer:
        return _send(fd, cdb, send, receive)

    try:
        yield by_ioctl
    finally:
        os.close(fd)


def _send(fd: int, cdb: bytes, send: bytes, receive: int) -> Answer:
    data = ctypes.create_string_buffer(send, len(send)) if send else ctypes.create_string_buffer(receive)
    sense, bytes_of_cdb = ctypes.create_string_buffer(96), ctypes.create_string_buffer(cdb, len(cdb))
    header = _Header(
        interface_id=ord("S"),
        dxfer_direction=DATA_OUT if send else DATA_IN if receive else NO_DATA,
        cmd_len=len(cdb),
        mx_sb_len=len(sense),
        dxfer_len=len(send) or receive,
        dxferp=ctypes.addressof(data),
        cmdp=ctypes.addressof(bytes_of_cdb),
        sbp=ctypes.addressof(sense),
        timeout=TIMEOUT,
    )
    fcntl.ioctl(fd, SG_IO, header)
    assert header.host_status == 0, f"{cdb.hex()}: host status {header.host_status:#x}"
    return Answer(header.status, sense.raw[: header.sb_len_wr], data.raw if receive else b"")
