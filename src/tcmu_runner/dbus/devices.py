"""Devices, and actions on them: the branch /org/kernel/TCMURunner2.

docs/reference/dbus.md describes it for its users.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcmu_runner.dbus import wire
from tcmu_runner.dbus.interface import Call, Objects, Served
from tcmu_runner.engine.observe.view import Controllable, DeviceView
from tcmu_runner.printable import utf8


class DevicesBranch:
    """One object for each device."""

    root = wire.ROOT

    def __init__(self, controllable: Controllable, version: str) -> None:
        self._controllable = controllable
        self._version = version

    def objects(self) -> Objects:
        devices = {wire.path(view.name): self._device(view) for view in self._controllable.devices()}
        return {self.root: [self._daemon()], **devices}

    def _daemon(self) -> Served:
        async def device_events() -> Sequence[object]:
            return [[wire.device_event(one) for one in self._controllable.device_events()]]

        async def problems() -> Sequence[object]:
            return [[utf8(each) for each in self._controllable.problems()]]

        calls: dict[str, Call] = {"Happenings": device_events, "Problems": problems}
        return Served(wire.DAEMON, lambda: {"Version": self._version}, calls, listed=False)

    def _device(self, view: DeviceView) -> list[Served]:
        name, control = view.name, self._controllable

        async def drain(seconds: float) -> Sequence[object]:
            return [await control.drain(name, seconds)]

        async def restart() -> Sequence[object]:
            await control.restart(name)
            return []

        async def resize(size: int) -> Sequence[object]:
            await control.resize(name, size)
            return []

        async def change(layer: str, table: dict[str, object]) -> Sequence[object]:
            return [await control.control(name, layer, table)]

        calls: dict[str, Call] = {"Drain": drain, "Restart": restart, "Resize": resize}
        return [
            Served(wire.DEVICE, lambda: wire.device(view), calls),
            Served(wire.LAYERS, calls={"Control": change}),
            Served(wire.STATISTICS, lambda: wire.statistics(view.statistics)),
        ]
