"""Device: a handler's LUN, and the events that the handler reports to the engine."""

from __future__ import annotations

import enum
import errno
import logging
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from tcmu_runner.clock import MACHINE, Clock

log = logging.getLogger("tcmu_runner.device")


def without_hba(name: str) -> str:
    """vol0 for user_0/vol0: the name by which LIO's tools keep a LUN. They number HBAs in the order in which
    they make LUNs, so that after a reboot it may be user_2/vol0."""
    return re.sub(r"\Auser_\d+/", "", name)


class DeviceLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the device's name before each message."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"{self.extra['device']}: {msg}", kwargs


def _nothing(_event: object) -> None:
    """Without an engine (a handler under the conformance kit) events go nowhere."""


class Origin(enum.Enum):
    """Why a LUN is opened. NEW: an administrator makes it. AGAIN: the same, after it was removed in this
    boot. RESTORED: it was served in an earlier boot. RUNNING: it is in use, and its daemon or worker was
    replaced."""

    NEW = "new"
    AGAIN = "again"
    RESTORED = "restored"
    RUNNING = "running"


@dataclass(slots=True)
class Device:
    """name: of the backstore, for example user_0/vol0. size: bytes. block_size: bytes. config: the LUN's
    whole config string, empty without one. storage: for a filter, the identity of the storage below it (see
    Plugin.identity), empty if unknown. origin: why the LUN is opened. written: whether commands may write to
    this storage; false below a filter such as cow, so that many LUNs may share it. clock: by which a handler
    or filter waits, for example for a lock.

    Handlers read the fields, log through `log`, and report events by the methods, on any thread.
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
    clock: Clock = MACHINE
    log: DeviceLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = DeviceLog(log, {"device": self.name})

    def missing(self, what: str, remedy: str) -> None:
        """Call before you create a missing storage. Raises OSError if the LUN was served with one before: an
        empty disk in its place would look like lost data. remedy: what an administrator does to get one."""
        if self.origin in (Origin.RESTORED, Origin.RUNNING):
            raise OSError(
                errno.ENOENT,
                f"{what} is missing, and {self.name} is no new LUN: mount its file system, or "
                f"restore it; to begin with an empty one: {remedy}",
            )
        if self.origin is Origin.AGAIN:
            self.log.warning("%s, with which it was served before, is missing: made anew, empty", what)

    def resized(self, size: int) -> None:
        """The storage has a new size in bytes: initiators get CAPACITY DATA HAS CHANGED."""
        self.on_resized(size)

    def write_lost(self, error: OSError) -> None:
        """A write-back storage has lost data that it had accepted. Initiators get the error's sense as a
        deferred error with their next command (SPC-5 4.4.7), since the write itself has ended with GOOD."""
        self.log.error("data that was written before is lost: %s", error)
        self.on_write_lost(error)

    def lost_connection(self) -> None:
        """The storage cannot be reached now."""
        self.log.error("lost the connection to its storage; commands wait or end in BUSY until it is back")

    def lost_lock(self) -> None:
        """Another host took the storage's lock."""
        self.log.error("lost the lock on its storage to another host")
