"""Backstores of the userspace kind, made by hand as the README shows it (tcmu: core/user_N/NAME)."""

import contextlib
import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from support.deadline import GENEROUS, within

TARGET = Path("/sys/kernel/config/target")
libc = ctypes.CDLL(None, use_errno=True)
EMPTY: Mapping[str, str | int] = MappingProxyType({})


def store(path: Path, value: object) -> None:
    """Writes as the kernel wants it: one write(), whose errno is kept. OSError names the file.

    Python's own os.write() would hide an EINTR, and write again.
    """
    text = os.fsencode(str(value))
    fd = os.open(path, os.O_WRONLY)
    try:
        if libc.write(fd, text, len(text)) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{os.strerror(code)} (writing {value})", str(path))
    finally:
        os.close(fd)


def show(path: Path) -> str:
    return path.read_text().strip()


@dataclass(frozen=True)
class Backstore:
    """A directory core/user_N/NAME. Every method may raise OSError with the kernel's errno, or StuckError."""

    name: str
    hba: int = 0

    @property
    def path(self) -> Path:
        return TARGET / "core" / f"user_{self.hba}" / self.name

    @classmethod
    def create(
        cls, name: str, config: str, size: int, *, hba: int = 0, control: Mapping[str, str | int] = EMPTY
    ) -> "Backstore":
        """Not yet enabled. `control` are more keys of the control file, such as {"hw_block_size": 4096}."""
        backstore = cls(name, hba)
        backstore.path.mkdir(parents=True)
        keys = {"dev_config": config, "dev_size": size, **control}
        backstore.store("control", ",".join(f"{key}={value}" for key, value in keys.items()))
        return backstore

    def enable(self, seconds: float = GENEROUS) -> None:
        """Waits for the daemon, which may refuse: OSError with the errno it gave."""
        self.store("enable", 1, seconds)

    def store(self, attribute: str, value: object, seconds: float = GENEROUS) -> None:
        within(seconds, store, self.path / attribute, value)

    def show(self, attribute: str) -> str:
        return show(self.path / attribute)

    def remove(self) -> None:
        """Waits for the daemon to let go. The HBA goes with its last device."""
        within(GENEROUS, self.path.rmdir)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
