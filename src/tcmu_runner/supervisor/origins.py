"""Which LUNs were served before: tells a LUN that is restored from one that an administrator makes.

rtslib's restoreconfig writes configfs exactly as an administrator's commands do, and at boot makes all LUNs.
A LUN that was served before this boot, under the same name and config string, has had its storage: if that is
missing now, a file system may not be mounted. A LUN that was served in this boot and is added again was
removed in between, by an administrator, perhaps with its storage.
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
    """Keeps one file for each LUN, named by LUN and storage, with the boot id under which it was served last.
    The HBA's number is not part of the name: rtslib renumbers HBAs at each boot. Methods block, never
    raise."""

    def __init__(self, directory: Path | None = DIRECTORY, boot_id: str | None = None) -> None:
        """directory: None keeps no notes."""
        self._directory = directory
        self._boot_id = boot_id or BOOT_ID.read_text().strip()

    def origin(self, name: DeviceName) -> Origin:
        """The origin of a device that the kernel adds now."""
        with suppress(OSError, UnicodeDecodeError):
            if (path := self._path(name)) is not None:
                return Origin.AGAIN if path.read_text().strip() == self._boot_id else Origin.RESTORED
        return Origin.NEW

    def note(self, name: DeviceName) -> None:
        """Call once the device is served."""
        path = self._path(name)
        if path is None or self.origin(name) is Origin.AGAIN:
            return
        try:
            files.write_whole(path, f"{self._boot_id}\n")
        except OSError as error:
            log.warning(
                "cannot note in %s that %s is served: %s: if its storage is missing after the next boot, "
                "the handler makes it anew",
                path, name.device, error.strerror,
            )  # fmt: skip

    def _path(self, name: DeviceName) -> Path | None:
        try:
            parts = split(name.config)
        except ConfigError:  # a device of another daemon
            return None
        storage = f"{parts.subtype}/{parts.rest.partition(';')[0]}"
        digest = hashlib.sha256(storage.encode(errors="surrogateescape")).hexdigest()[:16]
        text = quote(name.device, safe="", errors="surrogateescape")[:NAME_LENGTH]
        return self._directory and self._directory / f"{text}.{digest}"
