"""Which LUNs were served before: so a LUN that comes back is told from one that an administrator makes.

rtslib's restoreconfig makes backstores by configfs exactly as an administrator does, and at boot all of them
come that way. A LUN that was served in an earlier run of the machine, under the same name and config string,
has had its storage: if that is missing now, perhaps a file system is not mounted. A LUN that was served in
this run and is added once more was removed meanwhile, by an administrator who may have removed its storage.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from tcmu_runner import files
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.config import split
from tcmu_runner.handler.device import Origin
from tcmu_runner.kernel.uio import DeviceName

DIRECTORY = Path("/var/lib/tcmu-runner/served")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAME_LENGTH = 150  # a file's name may have 255 bytes

log = logging.getLogger(__name__)


class ServedBefore:
    """A note for each LUN, by its name and storage: in which run of the machine it was served last. The HBA
    is no part of the name: rtslib counts them anew at each boot. Methods block and raise nothing."""

    def __init__(self, directory: Path | None = DIRECTORY, boot_id: str | None = None) -> None:
        """directory: None keeps no notes."""
        self._directory = directory
        self._boot_id = boot_id or BOOT_ID.read_text().strip()

    def origin(self, name: DeviceName) -> Origin:
        """Of a device that the kernel adds now."""
        with suppress(OSError, UnicodeDecodeError):
            if (path := self._path(name)) is not None:
                return Origin.AGAIN if path.read_text().strip() == self._boot_id else Origin.RESTORED
        return Origin.NEW

    def note(self, name: DeviceName) -> None:
        """It is served."""
        path = self._path(name)
        if path is None or self.origin(name) is Origin.AGAIN:
            return
        try:
            files.write_whole(path, f"{self._boot_id}\n")
        except OSError as error:
            log.warning(
                "cannot note in %s that %s is served: %s: should its storage be missing after the next boot, "
                "it is made anew",
                path, name.device, error.strerror,
            )  # fmt: skip

    def _path(self, name: DeviceName) -> Path | None:
        try:
            parts = split(name.config)
        except ConfigError:  # a device of another daemon's
            return None
        storage = f"{parts.subtype}/{parts.rest.partition(';')[0]}"
        digest = hashlib.sha256(storage.encode(errors="surrogateescape")).hexdigest()[:16]
        text = quote(name.device, safe="", errors="surrogateescape")[:NAME_LENGTH]
        return self._directory and self._directory / f"{text}.{digest}"
