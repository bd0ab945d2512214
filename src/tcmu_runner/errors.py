"""The errors a user meets. Each carries the errno the kernel's configfs write shall fail with."""

import errno


class TcmuError(Exception):
    """Base of the errors whose text is for a user: it names the device or value and the way out."""

    errno = errno.EIO


class ConfigError(TcmuError):
    """A config string, an option or a setting is wrong; the text says which and what would be right."""

    errno = errno.EINVAL


class UnknownHandlerError(TcmuError):
    """No handler has the subtype a config string names."""

    errno = errno.ENOENT


class DeviceError(TcmuError):
    """A device cannot be served."""

    def __init__(self, message: str, code: int = errno.EIO) -> None:
        super().__init__(message)
        self.errno = code
