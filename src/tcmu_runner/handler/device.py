"""What a handler knows of its LUN, and how it tells the engine of events."""

from __future__ import annotations

import enum
import errno
import logging
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("tcmu_runner.device")


def without_hba(name: str) -> str:
    """vol0 for user_0/vol0: the name by which LIO's tools keep a LUN. They number HBAs in the order in which
    they make or restore LUNs, so that after a reboot it may be user_2/vol0."""
    return re.sub(r"\Auser_\d+/", "", name)


class DeviceLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the device's name before each message."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"{self.extra['device']}: {msg}", kwargs


def _nothing(_event: object) -> None:
    """No engine listens (a handler under the conformance kit)."""


class Origin(enum.Enum):
    """Why a LUN is opened: an administrator makes it; makes it once more after it was removed in this run of
    the machine; it was served in an earlier run and is restored; or it is in use, its daemon or worker is
    another one now."""

    NEW = "new"
    AGAIN = "again"
    RESTORED = "restored"
    RUNNING = "running"


@dataclass(slots=True)
class Device:
    """name: as the administrator knows it, for example user_0/vol0. size: bytes. block_size: bytes. config:
    the LUN's whole config string, empty without one. storage: for a filter, which storage is below it (see
    Plugin.identity), empty where nobody knows. origin: why it is opened. written: whether commands may write
    to this storage; not below a filter such as cow, so that many LUNs may have it.

    Handlers read the fields, log through `log`, and report events by the methods, from any thread.
    """

    name: str
    size: int
    block_size: int = 512
    on_resized: Callable[[int], None] = _nothing
    on_write_lost: Callable[[OSError], None] = _nothing
    config: str = ""
    storage: str = ""
    origin: Origin = Origin.NEW
    written: bool = True
    log: DeviceLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = DeviceLog(log, {"device": self.name})

    def missing(self, what: str, remedy: str) -> None:
        """Call it before making a storage that is not there. Raises OSError where it has been there: an empty
        disk in its place would look like one that was lost. remedy: what a person does to get one."""
        if self.origin in (Origin.RESTORED, Origin.RUNNING):
            raise OSError(
                errno.ENOENT,
                f"{what} is missing, and {self.name} is no new LUN: mount its file system, or "
                f"restore it; to begin with an empty one: {remedy}",
            )
        if self.origin is Origin.AGAIN:
            self.log.warning("%s, with which it was served before, is missing: made anew, empty", what)

    def resized(self, size: int) -> None:
        """The storage has a new size in bytes: initiators are told (CAPACITY DATA HAS CHANGED)."""
        self.on_resized(size)

    def write_lost(self, error: OSError) -> None:
        """A write-back storage could not keep what it took: initiators get the error's sense as a deferred
        error with their next command (SPC-5 4.4.7), since the write itself has long ended well."""
        self.log.error("data that was written before is lost: %s", error)
        self.on_write_lost(error)

    def lost_connection(self) -> None:
        """The storage cannot be reached at the moment."""
        self.log.error("lost the connection to its storage; commands wait or end in BUSY until it is back")

    def lost_lock(self) -> None:
        """Another host took the storage's lock."""
        self.log.error("lost the lock on its storage to another host")
