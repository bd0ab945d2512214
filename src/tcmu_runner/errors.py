"""Errors with a text for the user. Each has the errno with which the kernel fails a write to configfs."""

import errno


class TcmuError(Exception):
    """The base class. The text names the device or value and the way out."""

    errno = errno.EIO


class ConfigError(TcmuError):
    """A config string, an option or a setting is wrong; the text says which, and what would be right."""

    errno = errno.EINVAL


class UnknownHandlerError(TcmuError):
    """No handler has the subtype of a config string."""

    errno = errno.ENOENT


class ExhaustedError(TcmuError):
    """The system refuses this process a thread, a process or memory; the text says which."""

    errno = errno.EAGAIN


class DeviceError(TcmuError):
    """A device cannot be served."""

    def __init__(self, message: str, code: int = errno.EIO) -> None:
        super().__init__(message)
        self.errno = code


class TransportGoneError(Exception):
    """The kernel has removed the device: no command on its ring can be answered."""


_HINTS = {
    errno.ENOENT: ": create the directory, or correct the path in dev_config",
    errno.ENOTDIR: ": correct the path in dev_config",
    errno.EISDIR: ": name a file in it in dev_config",
    errno.EACCES: ": give the daemon's user access, or correct the path in dev_config",
    errno.EPERM: ": give the daemon's user access, or correct the path in dev_config",
    errno.EROFS: ": add ;read_only to dev_config, or mount the file system writable",
    errno.ENOSPC: ": free space on the file system",
}


def explain(error: BaseException) -> tuple[int, str]:
    """(positive errno, sentence with the way out) for an exception of an open or a resize."""
    if isinstance(error, TimeoutError) and not error.errno:
        return errno.ETIMEDOUT, "the handler did not answer in time: is its storage reachable?"
    if isinstance(error, TcmuError):
        return error.errno, str(error)
    if isinstance(error, OSError) and error.errno:
        hint = _HINTS.get(error.errno, "") if error.filename is not None else ""
        return error.errno, f"{error}{hint}"
    if isinstance(error, MemoryError):
        text = "out of memory: raise workers.memory in the settings, free some, or set a smaller dev_size"
        return errno.ENOMEM, text
    return errno.EIO, f"bug in the handler: {type(error).__name__}: {error}"
