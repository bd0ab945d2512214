"""A method call and its errors: the same on the bus and on the control socket."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tcmu_runner.errors import TcmuError
from tcmu_runner.printable import utf8

DBUS_ERRORS = "org.freedesktop.DBus.Error."
ERRORS = "org.kernel.TCMURunner2.Error."  # + the errno's name


@dataclass(frozen=True, slots=True)
class MethodCall:
    """arguments: plain values, without variants."""

    path: str
    interface: str
    method: str
    signature: str = ""
    arguments: tuple[object, ...] = ()


class CallError(Exception):
    """The caller's mistake. name: of the D-Bus error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def described(error: Exception) -> CallError:
    """The error reply for an exception of a call."""
    if isinstance(error, CallError):
        return CallError(error.name, utf8(str(error)))
    if isinstance(error, TcmuError | OSError):
        name = errno.errorcode.get(error.errno or errno.EIO, "EIO")
        return CallError(ERRORS + name, utf8(str(error)))
    return CallError(ERRORS + "EIO", utf8(f"bug: {type(error).__name__}: {error}"))


def is_bug(error: Exception) -> bool:
    """Whether we have failed, and the log needs the traceback."""
    return not isinstance(error, CallError | TcmuError | OSError)
