"""The files in which a LUN's state outlives the process that serves it. The supervisor, as root, opens them;
the process that serves the LUN writes to the descriptors with the privileges it has left."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from tcmu_runner.engine.unit_memory import FILE_SIZE, Record
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName
from tcmu_runner.scsi.unit_state import FORGOTTEN

_LONGEST_NAME = 100  # bytes of the device's name in a file's name, which may have 255 bytes
_MOST_IDENTITY = 1024

log = logging.getLogger(__name__)


class StateFiles:
    """Of one LUN. current: below /run, so it outlives the daemon but not a reboot; valid for one device of
    the kernel, with this `device_id`. lasting: below /var/lib; found by the device's name and config string,
    since HBA number and device_id change at a reboot or a restore.

    If a file cannot be opened, memory takes its place, which outlives only workers. All methods block.
    """

    def __init__(self, name: DeviceName, paths: Paths) -> None:
        self._title = f"user_{name.hba}/{name.device}"
        own = os.fsdecode(os.fsencode(name.device)[:_LONGEST_NAME])
        self._current_path = paths.run / "units" / f"{own}.{_digest(self._title)}"
        self._lasting_path = paths.state / "units" / f"{own}.{_digest(f'{name.device}/{name.config}')}"
        self._config = name.config
        self._current, self._lasting = self._open(self._current_path), self._open(self._lasting_path)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Of the current and the lasting record."""
        return self._current, self._lasting

    def begin(self, device_id: int) -> None:
        """For a new device: clears the current state."""
        try:
            os.ftruncate(self._current, 0)
            os.posix_fallocate(self._current, 0, FILE_SIZE)  # no write fails later for want of space
            os.pwrite(self._current, self._identity(device_id), FILE_SIZE)
        except OSError as error:
            os.close(self._current)
            self._current = self._in_memory(error)

    def resume(self, device_id: int) -> None:
        """For a device that was served before. State of another device_id belongs to a device that was
        removed and made again while no daemon ran: it is discarded. Raises OSError."""
        same = os.pread(self._current, _MOST_IDENTITY, FILE_SIZE) == self._identity(device_id)
        if same and Record(self._current).load() is not None:
            return
        self.begin(device_id)
        Record(self._current).store(FORGOTTEN)

    def write_cache(self) -> bool:
        """WCE as the process that serves the LUN has written it. Raises OSError."""
        return bool((Record(self._current).load() or {}).get("write_cache"))

    def forget(self) -> None:
        """The device is removed. The lasting state stays, unless it is empty: a restore of LIO's
        configuration makes the device again."""
        with suppress(OSError):  # missing; or it stays, and `resume` discards it by its device_id
            self._current_path.unlink()
        with suppress(OSError):
            if not Record(self._lasting).load():
                self._lasting_path.unlink()

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def _identity(self, device_id: int) -> bytes:
        return os.fsencode(f"{device_id} {self._config}")

    def _open(self, path: Path) -> int:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return self._in_memory(error)

    def _in_memory(self, error: OSError) -> int:
        text = "%s: %s: keeping its state in memory: a restart of the daemon resets WCE, SWP and the like"
        log.warning(text, self._title, error)
        return os.memfd_create("tcmu-state", os.MFD_CLOEXEC)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
