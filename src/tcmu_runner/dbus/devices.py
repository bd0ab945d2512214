"""What can be seen of the devices, and asked of them: the branch /org/kernel/TCMURunner2.

docs/reference/dbus.md describes it for its users.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbus_fast import unpack_variants

from tcmu_runner.dbus import wire
from tcmu_runner.dbus.interface import Call, Served
from tcmu_runner.dbus.tree import Objects
from tcmu_runner.engine.view import Controllable, DeviceView


class DevicesBranch:
    """Objects come and go with the devices."""

    root = wire.ROOT

    def __init__(self, controllable: Controllable, version: str) -> None:
        self._controllable = controllable
        self._version = version

    def objects(self) -> Objects:
        devices = {wire.path(view.name): self._device(view) for view in self._controllable.devices()}
        return {self.root: [self._daemon()], **devices}

    def _daemon(self) -> Served:
        async def happenings() -> Sequence[object]:
            return [[wire.happening(one) for one in self._controllable.happenings()]]

        return Served(
            wire.DAEMON, lambda: {"Version": self._version}, {"Happenings": happenings}, listed=False
        )

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
            return [wire.pack(await control.control(name, layer, unpack_variants(table)))]

        calls: dict[str, Call] = {"Drain": drain, "Restart": restart, "Resize": resize}
        return [
            Served(wire.DEVICE, lambda: wire.device(view), calls),
            Served(wire.LAYERS, calls={"Control": change}),
            Served(wire.STATISTICS, lambda: wire.statistics(view.statistics)),
        ]
