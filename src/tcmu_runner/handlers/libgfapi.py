"""Gluster's client library, as far as a file in a volume needs it: glfs.h (Gluster 6 and newer).

By ctypes: the modules on PyPI are unmaintained. Data goes straight between the volume and the ring's memory.
Every call blocks and releases the GIL; -1 and NULL are failures, with the reason in errno.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_void_p

from tcmu_runner.errors import ConfigError
from tcmu_runner.syscalls import IoVec

LOG_ERROR = 4  # GF_LOG_ERROR (glusterfs/logging.h)

# function: its result and its arguments
_FUNCTIONS: dict[str, tuple[type, tuple[type, ...]]] = {
    "glfs_new": (c_void_p, (c_char_p,)),
    "glfs_set_volfile_server": (c_int, (c_void_p, c_char_p, c_char_p, c_int)),
    "glfs_set_xlator_option": (c_int, (c_void_p, c_char_p, c_char_p, c_char_p)),
    "glfs_set_logging": (c_int, (c_void_p, c_char_p, c_int)),
    "glfs_init": (c_int, (c_void_p,)),
    "glfs_fini": (c_int, (c_void_p,)),
    "glfs_open": (c_void_p, (c_void_p, c_char_p, c_int)),
    "glfs_creat": (c_void_p, (c_void_p, c_char_p, c_int, c_int)),
    "glfs_close": (c_int, (c_void_p,)),
    "glfs_lseek": (c_int64, (c_void_p, c_int64, c_int)),
    "glfs_preadv": (c_ssize_t, (c_void_p, POINTER(IoVec), c_int, c_int64, c_int)),
    "glfs_pwritev": (c_ssize_t, (c_void_p, POINTER(IoVec), c_int, c_int64, c_int)),
    "glfs_h_lookupat": (c_void_p, (c_void_p, c_void_p, c_char_p, c_void_p, c_int)),
    "glfs_h_extract_handle": (c_ssize_t, (c_void_p, c_char_p, c_int)),
    "glfs_h_close": (c_int, (c_void_p,)),
    "glfs_fsync": (c_int, (c_void_p, c_void_p, c_void_p)),
    "glfs_ftruncate": (c_int, (c_void_p, c_int64, c_void_p, c_void_p)),
    "glfs_discard": (c_int, (c_void_p, c_int64, c_size_t)),
    "glfs_zerofill": (c_int, (c_void_p, c_int64, c_int64)),
}


@functools.cache
def load() -> ctypes.CDLL:
    """Raises ConfigError, which names the package."""
    try:
        library = ctypes.CDLL("libgfapi.so.0", use_errno=True)
    except OSError as error:
        raise ConfigError(f"{error}: install Gluster's client library (Debian: libgfapi0)") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def failure(what: str) -> OSError:
    """The error of the call that has just failed on this thread."""
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
