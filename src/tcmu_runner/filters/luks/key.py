"""Reads the passphrase from a file, a systemd credential, or the kernel's keyring."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.luks.secret import Secret, address

LARGEST = 8 << 20  # bytes of a key file; cryptsetup's limit, too
_THREAD_KEYRING, _USER_KEYRING = -1, -4  # linux/keyctl.h


@dataclass(frozen=True, slots=True)
class KeySource:
    """Exactly one is given. key_file: absolute path. credential: a name, as in systemd's LoadCredential.
    keyring: description of a key of the type user. All bytes there are the passphrase, as for cryptsetup."""

    key_file: str = ""
    credential: str = ""
    keyring: str = ""

    def __post_init__(self) -> None:
        if [bool(self.key_file), bool(self.credential), bool(self.keyring)].count(True) != 1:
            raise ConfigError("where is the key? Give one of key_file, credential and keyring")
        if self.key_file and not self.key_file.startswith("/"):
            raise ConfigError(f"option key_file = {self.key_file!r}: write an absolute path")
        if "/" in self.credential:
            raise ConfigError(f"option credential = {self.credential!r}: write its name, without a directory")

    def __str__(self) -> str:
        if self.keyring:
            return f"key {self.keyring!r} of the kernel's keyring"
        return f"credential {self.credential}" if self.credential else f"key file {self.key_file}"

    def read(self, environment: Mapping[str, str] = os.environ) -> Secret:
        """Returns the passphrase. Raises ConfigError, which names the remedy."""
        if self.keyring:
            return _from_keyring(self.keyring)
        if self.key_file:
            return _from_file(Path(self.key_file), str(self))
        directory = environment.get("CREDENTIALS_DIRECTORY")
        if directory is None:
            raise ConfigError(
                f"{self}: systemd gave none to this process: add LoadCredential={self.credential}:PATH to "
                "tcmu-runner.service"
            )
        return _from_file(Path(directory, self.credential), str(self))


def _from_file(path: Path, what: str) -> Secret:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _content(fd, what)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"{what}: {error.strerror}: correct the path, or who may read it") from None


def _content(fd: int, what: str) -> Secret:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{what} is no file: name a file with the key in it")
    if not 0 < status.st_size <= LARGEST:
        raise ConfigError(f"{what} has {status.st_size} bytes: write a key of 1 byte to 8 MiB to it")
    secret = Secret(status.st_size)
    if os.preadv(fd, [secret.view], 0) != status.st_size:
        secret.wipe()
        raise ConfigError(f"{what} changes while it is read: try again")
    return secret


def _from_keyring(description: str) -> Secret:
    """Searches the keyrings of thread, process, session and user. systemd gives a service a session keyring
    that does not link to the user's, so the user's is linked to this thread's first (keyctl_link(3))."""
    library = _keyutils()
    library.keyctl_link(_USER_KEYRING, _THREAD_KEYRING)
    key = library.request_key(b"user", description.encode(), None, 0)
    if key == -1:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigError(
            f"key {description!r} of the kernel's keyring: {reason}: add it with keyctl padd user "
            f"{description} @u"
        )
    size = library.keyctl_read(key, None, 0)
    secret = Secret(max(size, 0))
    if size <= 0 or library.keyctl_read(key, address(secret.view), size) != size:
        secret.wipe()
        raise ConfigError(f"key {description!r} of the kernel's keyring cannot be read: see keyctl describe")
    return secret


def _keyutils() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libkeyutils.so.1", use_errno=True)
    except OSError:
        raise ConfigError("keyring needs libkeyutils.so.1: install libkeyutils1 (keyutils-libs)") from None
    library.request_key.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    library.keyctl_read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    library.keyctl_read.restype = ctypes.c_long
    return library
