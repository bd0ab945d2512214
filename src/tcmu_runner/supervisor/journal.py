"""Each device's state and its events, for the log and for those that watch (D-Bus, HTTP)."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.supervisor.device import KernelDevice

KEPT = 200  # events

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalRecord:
    """See DeviceView."""

    device: KernelDevice
    state: State
    since: float
    last_error: str = ""
    restarts: int = 0

    def enter(self, state: State, now: float) -> None:
        if state is not self.state:
            self.restarts += state is State.SERVING and self.state is not State.OPENING
            self.state, self.since = state, now

    def view(self) -> DeviceView:
        device = self.device
        config = device.entry.name.config
        return DeviceView(
            name=device.name,
            minor=device.entry.minor,
            handler=config.partition("/")[0],
            config=config,
            size=device.size,
            block_size=device.block_size,
            state=self.state,
            since=self.since,
            last_error=self.last_error,
            restarts=self.restarts,
            pid=device.pid,
            statistics=device.snapshot(),
        )


class Journal:
    """On the event loop. A device has a record from `open` to `close`; a minor has one at a time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._records: dict[int, JournalRecord] = {}
        self._device_events: deque[DeviceEvent] = deque(maxlen=KEPT)
        self._subscribers: list[Callable[[str], None]] = []

    def __iter__(self) -> Iterator[JournalRecord]:
        """By name of the device."""
        return iter(sorted(self._records.values(), key=lambda record: record.device.name))

    def device_events(self) -> list[DeviceEvent]:
        """The last ones, oldest first."""
        return list(self._device_events)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """`changed` is called with a device's name at each change from now on, on the event loop."""
        self._subscribers.append(changed)

    def open(self, device: KernelDevice) -> None:
        """Starts the record of a new device, or of one that is taken over: state OPENING."""
        self._records[device.entry.minor] = JournalRecord(device, State.OPENING, self._clock())
        self._tell(device)

    def close(self, minor: int) -> None:
        """Ends the record of this minor, if there is one."""
        record = self._records.pop(minor, None)
        if record is not None:
            self._tell(record.device)

    def state(self, device: KernelDevice) -> State | None:
        """None without a record."""
        record = self._records.get(device.entry.minor)
        return record.state if record is not None and record.device is device else None

    def note(self, device: KernelDevice, level: int, text: str, state: State | None = None) -> None:
        """Logs an event of a device that has a record, and enters `state` if given."""
        record = self._records[device.entry.minor]
        now = self._clock()
        log.log(level, "%s: %s", device.title, text)
        self._device_events.append(DeviceEvent(now, device.name, level, text))
        if level >= logging.ERROR:
            record.last_error = text
        if state is not None:
            record.enter(state, now)
        self._tell(device)

    def enter(self, device: KernelDevice, state: State) -> None:
        """Changes the state without a log line."""
        self._records[device.entry.minor].enter(state, self._clock())
        self._tell(device)

    def _tell(self, device: KernelDevice) -> None:
        for changed in self._subscribers:
            changed(device.name)
