"""Ceph's C libraries, as far as a block device needs them: librados.h, librbd.h (Ceph 16 and newer).

By ctypes and not with Ceph's Python modules: those are tied to the distribution's interpreter and copy every
buffer; here data goes straight between the cluster and the ring's memory. Every call but the aio ones blocks
and releases the GIL. A negative return value is an errno.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ssize_t, c_uint8, c_uint64, c_void_p

from tcmu_runner.errors import ConfigError
from tcmu_runner.syscalls import IoVec

EXCLUSIVE = 0  # RBD_LOCK_MODE_EXCLUSIVE
EVENTFD = 2  # EVENT_TYPE_EVENTFD
THICK = 1  # RBD_WRITE_ZEROES_FLAG_THICK_PROVISION
BATCH = 64  # completions fetched by one call
MISCOMPARE = errno.EILSEQ  # of a failed comparison

OnChange = ctypes.CFUNCTYPE(None, c_void_p)
OnExtent = ctypes.CFUNCTYPE(c_int, c_uint64, c_size_t, c_int, c_void_p)


# function: its arguments; each returns an int
_RADOS: dict[str, tuple[object, ...]] = {
    "rados_create2": (POINTER(c_void_p), c_char_p, c_char_p, c_uint64),
    "rados_conf_read_file": (c_void_p, c_char_p),
    "rados_conf_set": (c_void_p, c_char_p, c_char_p),
    "rados_connect": (c_void_p,),
    "rados_ioctx_create": (c_void_p, c_char_p, POINTER(c_void_p)),
    "rados_getaddrs": (c_void_p, POINTER(c_void_p)),
    "rados_service_register": (c_void_p, c_char_p, c_char_p, c_char_p),
    "rados_service_update_status": (c_void_p, c_char_p),
}
_RBD: dict[str, tuple[object, ...]] = {
    "rbd_open": (c_void_p, c_char_p, POINTER(c_void_p), c_char_p),
    "rbd_open_read_only": (c_void_p, c_char_p, POINTER(c_void_p), c_char_p),
    "rbd_close": (c_void_p,),
    "rbd_get_size": (c_void_p, POINTER(c_uint64)),
    "rbd_get_stripe_unit": (c_void_p, POINTER(c_uint64)),
    "rbd_get_id": (c_void_p, c_char_p, c_size_t),
    "rbd_resize": (c_void_p, c_uint64),
    "rbd_set_image_notification": (c_void_p, c_int, c_int),
    "rbd_poll_io_events": (c_void_p, POINTER(c_void_p), c_int),
    "rbd_aio_create_completion": (c_void_p, c_void_p, POINTER(c_void_p)),
    "rbd_aio_readv": (c_void_p, POINTER(IoVec), c_int, c_uint64, c_void_p),
    "rbd_aio_writev": (c_void_p, POINTER(IoVec), c_int, c_uint64, c_void_p),
    "rbd_aio_discard": (c_void_p, c_uint64, c_uint64, c_void_p),
    "rbd_aio_write_zeroes": (c_void_p, c_uint64, c_size_t, c_void_p, c_int, c_int),
    "rbd_aio_writesame": (c_void_p, c_uint64, c_size_t, c_char_p, c_size_t, c_void_p, c_int),
    "rbd_aio_flush": (c_void_p, c_void_p),
    "rbd_diff_iterate2": (c_void_p, c_char_p, c_uint64, c_uint64, c_uint8, c_uint8, OnExtent, c_void_p),
    "rbd_update_watch": (c_void_p, POINTER(c_uint64), OnChange, c_void_p),
    "rbd_update_unwatch": (c_void_p, c_uint64),
    "rbd_lock_acquire": (c_void_p, c_int),
    "rbd_lock_get_owners": (c_void_p, POINTER(c_int), POINTER(c_char_p), POINTER(c_size_t)),
    "rbd_lock_break": (c_void_p, c_int, c_char_p),
    "rbd_metadata_get": (c_void_p, c_char_p, c_char_p, POINTER(c_size_t)),
    "rbd_metadata_set": (c_void_p, c_char_p, c_char_p),
}


@functools.cache
def load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """librados and librbd. Raises ConfigError, which names the packages."""
    try:
        rados, rbd = ctypes.CDLL("librados.so.2"), ctypes.CDLL("librbd.so.1")
    except OSError as error:
        raise ConfigError(f"{error}: install Ceph's client libraries (Debian: librbd1)") from None
    for library, functions in ((rados, _RADOS), (rbd, _RBD)):
        for name, arguments in functions.items():
            getattr(library, name).argtypes = arguments
    rados.rados_buffer_free.argtypes = (c_void_p,)
    rados.rados_buffer_free.restype = None
    rados.rados_shutdown.argtypes = rados.rados_ioctx_destroy.argtypes = (c_void_p,)
    rados.rados_ioctx_set_namespace.argtypes = (c_void_p, c_char_p)
    rados.rados_ioctx_set_namespace.restype = None
    rados.rados_shutdown.restype = rados.rados_ioctx_destroy.restype = None
    rbd.rbd_aio_get_return_value.argtypes = rbd.rbd_aio_release.argtypes = (c_void_p,)
    rbd.rbd_aio_get_return_value.restype, rbd.rbd_aio_release.restype = c_ssize_t, None
    rbd.rbd_lock_get_owners_cleanup.argtypes = (POINTER(c_char_p), c_size_t)
    rbd.rbd_lock_get_owners_cleanup.restype = None
    compare = (c_void_p, c_uint64, c_size_t, c_char_p, c_char_p, POINTER(c_uint64), c_int)
    rbd.rbd_compare_and_write.argtypes, rbd.rbd_compare_and_write.restype = compare, c_ssize_t
    return rados, rbd


def check(result: int, what: str) -> int:
    """The result, unless it is negative. Raises OSError."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result
