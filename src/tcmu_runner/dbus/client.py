"""The daemon as another process sees it over D-Bus: for our own commands, and for whoever writes one.

    async with Client() as daemon:
        for device in await daemon.devices():
            print(device.name, device.state.value)

All methods raise TcmuError, whose text is for the user: no bus, no daemon, no permission, or why the daemon
has refused.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from dbus_fast import BusType, Message, MessageType, unpack_variants
from dbus_fast.aio import MessageBus

from tcmu_runner.dbus import names, standard, wire
from tcmu_runner.dbus.tree import ERRORS
from tcmu_runner.engine.view import DeviceView, Happening
from tcmu_runner.errors import DeviceError, TcmuError

_REMEDIES = {
    "org.freedesktop.DBus.Error.ServiceUnknown": "no tcmu-runner is running: systemctl start tcmu-runner",
    "org.freedesktop.DBus.Error.NameHasNoOwner": "no tcmu-runner is running: systemctl start tcmu-runner",
    "org.freedesktop.DBus.Error.AccessDenied": "permission denied: only root may ask that of tcmu-runner",
    "org.freedesktop.DBus.Error.NoReply": "tcmu-runner does not answer: look at its log",
}


class Client:
    """name: the daemon's on the bus. One event loop."""

    def __init__(self, name: str = names.SERVICE) -> None:
        self._name = name
        self._bus: MessageBus

    async def __aenter__(self) -> Self:
        try:
            self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        except Exception as error:  # each version of dbus-fast has others
            raise DeviceError(f"cannot reach the system bus: {error}; is dbus running?") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await close(self._bus)

    async def devices(self) -> list[DeviceView]:
        """By name."""
        (objects,) = await self._call(wire.ROOT, standard.MANAGER.name, "GetManagedObjects")
        views = [
            wire.view(interfaces[wire.DEVICE.name], interfaces[wire.STATISTICS.name])
            for interfaces in objects.values()
        ]
        return sorted(views, key=lambda view: view.name)

    async def happenings(self) -> list[Happening]:
        """The last ones, oldest first."""
        (found,) = await self._call(wire.ROOT, wire.DAEMON.name, "Happenings")
        return [Happening(*each) for each in found]

    async def version(self) -> str:
        asked = (wire.DAEMON.name, "Version")
        (found,) = await self._call(wire.ROOT, standard.PROPERTIES.name, "Get", "ss", *asked)
        return str(found)

    async def handlers(self) -> dict[str, str]:
        """Their descriptions, by subtype; external ones, too."""
        (objects,) = await self._call(names.ROOT, standard.MANAGER.name, "GetManagedObjects")
        return {
            path.rpartition("/")[2]: interfaces[names.HANDLER.name]["ConfigDesc"]
            for path, interfaces in sorted(objects.items())
        }

    async def check_config(self, config: str) -> str:
        """config: a whole config string. Empty when a device could have it, else why not."""
        subtype = config.partition("/")[0]
        if subtype not in (known := await self.handlers()):
            return f"no handler {subtype!r}; there are: {', '.join(known)}"
        path = names.path(subtype)
        good, why = await self._call(path, names.HANDLER.name, "CheckConfig", "s", config)
        return "" if good else str(why)

    async def drain(self, name: str, seconds: float) -> bool:
        """See Controllable."""
        (drained,) = await self._call(wire.path(name), wire.DEVICE.name, "Drain", "d", seconds)
        return bool(drained)

    async def restart(self, name: str) -> None:
        """See Controllable."""
        await self._call(wire.path(name), wire.DEVICE.name, "Restart")

    async def resize(self, name: str, size: int) -> None:
        """See Controllable."""
        await self._call(wire.path(name), wire.DEVICE.name, "Resize", "t", size)

    async def control(self, name: str, layer: str, table: Mapping[str, object]) -> dict[str, Any]:
        """See Controllable."""
        arguments = (layer, wire.pack(table))
        (told,) = await self._call(wire.path(name), wire.LAYERS.name, "Control", "sa{sv}", *arguments)
        return dict(told)

    async def _call(
        self, path: str, interface: str, method: str, signature: str = "", *arguments: object
    ) -> list[Any]:
        """What the method gives, without variants."""
        reply = await self._bus.call(
            Message(self._name, path, interface, method, signature=signature, body=list(arguments))
        )
        assert reply is not None  # we wait for one
        if reply.message_type is MessageType.ERROR:
            raise _error(str(reply.error_name), str(reply.body[0]) if reply.body else "", path)
        results: list[Any] = unpack_variants(reply.body)
        return results


async def close(bus: MessageBus) -> None:
    """Disconnects, and waits until nothing is open any more."""
    if bus.connected:
        bus.disconnect()
        with suppress(Exception):  # however the connection ends
            await asyncio.wait_for(bus.wait_for_disconnect(), 1)  # type: ignore[no-untyped-call]


def _error(name: str, text: str, path: str) -> TcmuError:
    if name.startswith(ERRORS):
        return DeviceError(text, getattr(errno, name.removeprefix(ERRORS), errno.EIO))
    if name == "org.freedesktop.DBus.Error.UnknownObject":
        what = path.rpartition("/devices/")[2]
        return DeviceError(f"no device {what}: tcmu-runner list shows them", errno.ENODEV)
    return DeviceError(_REMEDIES.get(name, f"tcmu-runner answers {name}: {text}"))
