"""A daemon to look at, whose devices a test has made up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.handler.registry import Provider

READ_10, WRITE_10, SYNCHRONIZE_CACHE_10 = 0x28, 0x2A, 0x35
MEDIUM_ERROR = bytes.fromhex("70 00 03 00000000 0a 00000000 11 00 00 000000")  # SPC-5 table 48: 03/11/00


def used() -> Statistics:
    """Two READs of 4 KiB in 100 us, one of which failed, a WRITE of 8 KiB in 3 ms, a flush that was BUSY."""
    counters = Statistics()
    counters.record(READ_10, 4096, 0.0001, 0, b"")
    counters.record(READ_10, 4096, 0.0001, 2, MEDIUM_ERROR)
    counters.record(WRITE_10, 8192, 0.003, 0, b"")
    counters.record(SYNCHRONIZE_CACHE_10, 0, 0.5, 8, b"")
    counters.gauge(3, None)
    return counters


VOL0 = DeviceView(
    name="user_0/vol0",
    minor=4,
    handler="file",
    config="file//srv/vol0.img",
    size=1 << 30,
    block_size=512,
    state=State.SERVING,
    since=1000.0,
    last_error="",
    restarts=2,
    pid=77,
    statistics=used().snapshot(),
)


def like_vol0(**other: object) -> DeviceView:
    return replace(VOL0, **other)  # type: ignore[arg-type]


@dataclass
class Watched:
    views: list[DeviceView] = field(default_factory=lambda: [VOL0])
    events: list[DeviceEvent] = field(
        default_factory=lambda: [DeviceEvent(1000.5, "user_0/vol0", logging.WARNING, "a warning")]
    )

    def devices(self) -> list[DeviceView]:
        return self.views

    def device_events(self) -> list[DeviceEvent]:
        return self.events

    def problems(self) -> list[str]:
        return []

    def handlers(self) -> list[Provider]:
        return []

    def subscribe(self, changed: Callable[[str], None]) -> None:
        raise AssertionError("nobody here needs to be told")
