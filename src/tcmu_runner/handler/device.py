"""What a handler knows of its LUN, and how it tells the engine of events."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("tcmu_runner.device")


class DeviceLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the device's name before each message."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"{self.extra['device']}: {msg}", kwargs


def _nothing(_event: object) -> None:
    """No engine listens (a handler under the conformance kit)."""


@dataclass(slots=True)
class Device:
    """name: as the administrator knows it, for example user_0/vol0. size: bytes. block_size: bytes.

    Handlers read the fields, log through `log`, and report events by the methods, from any thread.
    """

    name: str
    size: int
    block_size: int = 512
    on_resized: Callable[[int], None] = _nothing
    on_write_lost: Callable[[OSError], None] = _nothing
    log: DeviceLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = DeviceLog(log, {"device": self.name})

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
