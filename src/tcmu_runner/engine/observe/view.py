"""What can be seen of a daemon, and what an administrator can ask of it: plain data for D-Bus, metrics, pages
and commands, whatever front end there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tcmu_runner.engine.observe.statistics import Snapshot
from tcmu_runner.engine.serve.late import HUNG_SECONDS
from tcmu_runner.handler.registry import Provider

FAILING_SECONDS = 60.0  # so long after a failure of the storage a device counts as one that fails


class State(Enum):
    """Of a device. Initiators are told BUSY, and retry, in every state but SERVING."""

    OPENING = "opening"  # its handler opens the storage
    SERVING = "serving"
    RECOVERING = "recovering"  # its server has ended, a new one opens the storage
    WAITING = "waiting"  # its servers end again and again: the next one starts after a pause
    FAILED = "failed"  # it existed before this daemon, and cannot be taken over
    STOPPED = "stopped"  # drained: its storage is closed


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device at one moment.

    name: as an administrator knows it, user_0/vol0. minor: N of uioN. handler: the subtype. config: the whole
    config string. size, block_size: bytes, 0 before it was served. since: Unix time of the last change of
    `state`. last_error: empty without any. restarts: of its server since this daemon serves it. pid: of the
    process that serves it, 0 without any. statistics: since this daemon serves it.
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
        """What is wrong at this Unix time, in words; empty while it is served well."""
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
    """What the log says of a device. time: Unix. device: its name. level: one of `logging`."""

    time: float
    device: str
    level: int
    text: str


class Watchable(Protocol):
    """All of it for the event loop's thread."""

    def devices(self) -> list[DeviceView]:
        """By name."""

    def device_events(self) -> list[DeviceEvent]:
        """The last ones, oldest first."""

    def handlers(self) -> list[Provider]:
        """By subtype."""

    def problems(self) -> list[str]:
        """What does not work though devices are served, in words: handlers that cannot be loaded, the log."""

    def watch(self, changed: Callable[[str], None]) -> None:
        """`changed` is called with a device's name from now on: when it comes, goes, changes its state, or
        something happens to it."""


class Controllable(Watchable, Protocol):
    """All raise TcmuError or OSError, whose text is for the administrator: no such device, or why not."""

    async def drain(self, name: str, seconds: float) -> bool:
        """Lets the commands under way end and closes the storage; then initiators are told BUSY, until
        `restart`. False: they did not end in time, and the device is served as before."""

    async def restart(self, name: str) -> None:
        """Serves the device with a new server, whatever its state was; commands under way are retried."""

    async def control(self, name: str, layer: str, table: dict[str, object]) -> dict[str, object]:
        """Changes a filter of the device, or its handler, until its server ends, and tells how it is set: see
        Filter.control. layer: the filter's name (NAME:2 is the second of that name) or the handler's."""

    async def resize(self, name: str, size: int) -> None:
        """size: bytes. As the administrator's `echo SIZE > attrib/dev_size`."""
