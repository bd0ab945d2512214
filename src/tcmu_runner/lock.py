"""The lock that one daemon on a machine holds; the C daemon takes the same one."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.errors import DeviceError

RETRY_SECONDS = 0.05
_FLOCK = struct.Struct("@hhqqi4x")  # fcntl(2), struct flock: type, whence, start, length, process


class DaemonLock:
    """Two daemons would answer each other's events. A record lock (fcntl(2)) ends with its process."""

    def __init__(self, path: Path, clock: Clock = MACHINE) -> None:
        self._path = path
        self._clock = clock
        self._descriptor: int | None = None

    def acquire(self, seconds: float) -> None:
        """Waits up to `seconds`, then raises DeviceError: a guardian holds it while it tidies up."""
        deadline = self._clock.monotonic() + seconds
        while not self.try_acquire():
            if self._clock.monotonic() > deadline:
                raise DeviceError(
                    f"{self._path} is locked by {self.holder()}: it serves this machine; stop it first, for "
                    "example with systemctl stop tcmu-runner"
                )
            self._clock.sleep(RETRY_SECONDS)

    def holder(self) -> str:
        """The holder, for a message: "process 123 (/usr/bin/tcmu-runner)"."""
        pid = owner(self._path)
        return "a process that has just let go of it" if pid is None else f"process {pid} ({_program(pid)})"

    def is_anothers(self, pid: int) -> bool:
        """Whether a process other than `pid` holds it; False if that cannot be read."""
        try:
            return owner(self._path) not in (None, pid)
        except OSError:
            return False

    def try_acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def owner(path: Path) -> int | None:
    """The process that holds a lock file's lock, None without one (fcntl(2), F_GETLK). Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)


def _program(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "in another container"
    script = words[1:2] if words[0].rpartition(b"/")[2].startswith(b"python") else words[:1]
    return os.fsdecode(b"".join(script) or words[0])
