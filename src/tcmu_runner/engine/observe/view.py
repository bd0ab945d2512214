"""Plain data about a daemon's devices, and the actions that an administrator can request: for D-Bus, metrics,
pages and commands, independent of the front end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tcmu_runner.engine.observe.statistics import Snapshot
from tcmu_runner.engine.serve.late import HUNG_SECONDS
from tcmu_runner.handler.registry import Provider

FAILING_SECONDS = 60.0  # a device counts as failing for so long after a failure of its storage


class State(Enum):
    """Of a device. In every state but SERVING the kernel answers BUSY, and initiators retry."""

    OPENING = "opening"  # the handler opens the storage
    SERVING = "serving"
    RECOVERING = "recovering"  # the server has ended, a new one opens the storage
    WAITING = "waiting"  # the server ended several times in a row: the next one starts after a pause
    FAILED = "failed"  # it existed before this daemon, which could not take it over
    STOPPED = "stopped"  # drained: its storage is closed


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device at one moment.

    name: of the backstore, user_0/vol0. minor: N of uioN. handler: the subtype. config: the whole config
    string. size, block_size: bytes, 0 before it was served. since: Unix time of the last change of `state`.
    last_error: empty without any. restarts: of its server since this daemon serves it. pid: of the process
    that serves it, 0 without any. statistics: since this daemon serves it.
    """

    name: str
    minor: int
    handler: str
    config: str
    size: int
    block_size: int
    state: State
    since: float
    last_error: str
    restarts: int
    pid: int
    statistics: Snapshot

    def trouble(self, now: float) -> str:
        """What is wrong at this Unix time, as text; empty for a device that works."""
        numbers = self.statistics
        if self.state is State.STOPPED:
            return "drained: initiators wait"
        if self.state is not State.SERVING:
            return f"{self.state.value}: {self.last_error}" if self.last_error else self.state.value
        if numbers.oldest >= HUNG_SECONDS:
            return f"its storage does not answer: a command waits for {numbers.oldest:.0f} s"
        if now - numbers.failed_at < FAILING_SECONDS:
            return f"its storage fails, {max(now - numbers.failed_at, 0):.0f} s ago: {numbers.failure}"
        return ""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """An event of a device in the log. time: Unix time. device: its name. level: one of `logging`."""

    time: float
    device: str
    level: int
    text: str


class Watchable(Protocol):
    """Methods are for the event loop's thread."""

    def devices(self) -> list[DeviceView]:
        """Sorted by name."""

    def device_events(self) -> list[DeviceEvent]:
        """The last events, oldest first."""

    def handlers(self) -> list[Provider]:
        """Sorted by subtype."""

    def problems(self) -> list[str]:
        """What does not work though devices are served, as text: handlers that cannot be loaded, the log."""

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """`changed` is called with a device's name from now on: when it appears, vanishes, changes its state,
        or has an event."""


class Controllable(Watchable, Protocol):
    """Methods raise TcmuError or OSError with a text for the administrator."""

    async def drain(self, name: str, seconds: float) -> bool:
        """Waits until no command is under way and closes the storage; initiators then get BUSY until
        `restart`. False: commands are left after `seconds`, and the device is served as before."""

    async def restart(self, name: str) -> None:
        """Serves the device with a new server, whatever its state; initiators retry commands under way."""

    async def control(self, name: str, layer: str, table: dict[str, object]) -> dict[str, object]:
        """Changes a filter of the device, or its handler, until its server ends; returns its present
        settings: see Filter.control. layer: the filter's name (NAME:2 is the second of that name) or the
        handler's."""

    async def resize(self, name: str, size: int) -> None:
        """size: bytes. The same as the administrator's `echo SIZE > attrib/dev_size`."""
