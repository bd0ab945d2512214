"""Devices as a test puts them there, instead of those of a DeviceManager."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tcmu_runner.engine.observe.statistics import OpcodeStatistics, Snapshot
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.registry import Provider

HISTOGRAM = (0, 3, 5, *[0] * 25)
SNAPSHOT = Snapshot(3, 1.5, (OpcodeStatistics(0x28, 8, 32768, 2, 90, HISTOGRAM),), {(2, 3, 0x11, 0): 2})


def a_device(name: str = "user_0/vol0", state: State = State.SERVING) -> DeviceView:
    return DeviceView(
        name=name,
        minor=4,
        handler="ram",
        config="ram/",
        size=1 << 40,
        block_size=512,
        state=state,
        since=1764000000.25,
        last_error="",
        restarts=1,
        pid=4711,
        statistics=SNAPSHOT,
    )


@dataclass
class Shelf:
    """A Controllable. asked: what an administrator has asked for. refusal: what is raised then."""

    views: dict[str, DeviceView] = field(default_factory=dict)
    asked: list[tuple[object, ...]] = field(default_factory=list)
    refusal: Exception | None = None
    watchers: list[Callable[[str], None]] = field(default_factory=list)
    told: list[DeviceEvent] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def put(self, view: DeviceView) -> None:
        self.views[view.name] = view
        self._tell(view.name)

    def change(self, name: str, state: State) -> None:
        self.put(replace(self.views[name], state=state))

    def take(self, name: str) -> None:
        del self.views[name]
        self._tell(name)

    def _tell(self, name: str) -> None:
        for changed in self.watchers:
            changed(name)

    def devices(self) -> list[DeviceView]:
        return sorted(self.views.values(), key=lambda view: view.name)

    def device_events(self) -> list[DeviceEvent]:
        return self.told

    def problems(self) -> list[str]:
        return self.broken

    def handlers(self) -> list[Provider]:
        return []

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self.watchers.append(changed)

    async def drain(self, name: str, seconds: float) -> bool:
        return self._do("drain", name, seconds)

    async def restart(self, name: str) -> None:
        self._do("restart", name)

    async def resize(self, name: str, size: int) -> None:
        self._do("resize", name, size)

    async def control(self, name: str, layer: str, table: dict[str, object]) -> dict[str, object]:
        self._do("control", name, layer, table)
        return table

    def _do(self, *request: object) -> bool:
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal
        return True


BUSY = DeviceError("user_0/vol0: the storage is away: plug it in", 16)
