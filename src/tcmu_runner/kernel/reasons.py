"""Why a device was refused: the errno for the kernel, the sentence for the log."""

from __future__ import annotations

import errno

from tcmu_runner.errors import TcmuError

_HINTS = {
    errno.ENOENT: ": create the directory, or correct the path in dev_config",
    errno.ENOTDIR: ": correct the path in dev_config",
    errno.EISDIR: ": name a file in it in dev_config",
    errno.EACCES: ": give the daemon's user access, or correct the path in dev_config",
    errno.EPERM: ": give the daemon's user access, or correct the path in dev_config",
    errno.EROFS: ": add ;read_only to dev_config, or mount the file system writable",
    errno.ENOSPC: ": free space on the file system",
}


def reason(error: BaseException) -> tuple[int, str]:
    """(positive errno, sentence with the way out) of what an opening or resize raised."""
    if isinstance(error, TimeoutError) and not error.errno:
        return errno.ETIMEDOUT, "the handler did not answer in time: is its storage reachable?"
    if isinstance(error, TcmuError):
        return error.errno, str(error)
    if isinstance(error, OSError) and error.errno:
        hint = _HINTS.get(error.errno, "") if error.filename is not None else ""
        return error.errno, f"{error}{hint}"
    return errno.EIO, f"bug in the handler: {type(error).__name__}: {error}"
