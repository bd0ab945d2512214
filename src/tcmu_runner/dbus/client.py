"""Client: the daemon as other processes see it, for our own commands and for scripts.

    async with Client() as daemon:
        for device in await daemon.devices():
            print(device.name, device.state.value)

It calls over D-Bus; without a bus, or without the daemon's name on it, over the control socket. All methods
raise TcmuError with a text for the user: no daemon, no permission, or the daemon's refusal.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tcmu_runner.dbus import names, over_socket, standard, wire
from tcmu_runner.dbus.calls import DBUS_ERRORS, ERRORS, CallError, MethodCall
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView
from tcmu_runner.errors import DeviceError, TcmuError
from tcmu_runner.printable import utf8
from tcmu_runner.settings import Coexistence

if TYPE_CHECKING:
    from tcmu_runner.dbus.over_bus import OverBus

CONTROL = Coexistence().control
_NOBODY = {DBUS_ERRORS + "ServiceUnknown", DBUS_ERRORS + "NameHasNoOwner"}
_REMEDIES = {
    DBUS_ERRORS + "AccessDenied": "permission denied: only root may ask that of tcmu-runner",
    DBUS_ERRORS + "NoReply": "tcmu-runner does not answer: look at its log",
}


class NotRunningError(DeviceError):
    """The daemon is neither on the bus nor on the control socket: it is stopped, or has just been started.
    where: the places tried, and what was found there."""

    def __init__(self, where: str) -> None:
        super().__init__(f"no tcmu-runner is running ({where}): systemctl start tcmu-runner")
        self.where = where


class Client:
    """name: the daemon's on the bus. control: its socket. start: have systemd start a stopped daemon; without
    it no call starts one. For one event loop."""

    def __init__(self, name: str = names.SERVICE, control: Path = CONTROL, *, start: bool = False) -> None:
        self._name = name
        self._control = control
        self._start = start
        self._bus: OverBus | None = None
        self._no_bus = ""  # why there is no bus

    async def __aenter__(self) -> Self:
        try:
            from tcmu_runner.dbus.over_bus import OverBus  # noqa: PLC0415 - its library may be missing

            bus = OverBus(self._name)
            await bus.open()
        except Exception as error:  # each version of dbus-fast raises others
            self._no_bus = f"cannot reach the system bus: {error}"
        else:
            self._bus = bus
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bus is not None:
            await self._bus.close()

    async def devices(self) -> list[DeviceView]:
        """Sorted by name."""
        views = [
            wire.view(interfaces[wire.DEVICE.name], interfaces[wire.STATISTICS.name])
            for interfaces in (await self._objects()).values()
        ]
        return sorted(views, key=lambda view: view.name)

    async def device_events(self) -> list[DeviceEvent]:
        """The last events, oldest first."""
        (found,) = await self._call(wire.ROOT, wire.DAEMON.name, "Happenings")
        return [DeviceEvent(*each) for each in found]

    async def problems(self) -> list[str]:
        """See Watchable."""
        (found,) = await self._call(wire.ROOT, wire.DAEMON.name, "Problems")
        return list(found)

    async def version(self) -> str:
        asked = (wire.DAEMON.name, "Version")
        (found,) = await self._call(wire.ROOT, standard.PROPERTIES.name, "Get", "ss", *asked)
        return str(found)

    async def handlers(self) -> dict[str, str]:
        """Descriptions of all handlers, external ones included, by subtype."""
        (objects,) = await self._call(names.ROOT, standard.MANAGER.name, "GetManagedObjects")
        return {
            path.rpartition("/")[2]: interfaces[names.HANDLER.name]["ConfigDesc"]
            for path, interfaces in sorted(objects.items())
        }

    async def check_config(self, config: str) -> str:
        """config: a whole config string. Empty if it is valid for a device, else the reason."""
        subtype = config.partition("/")[0]
        if subtype not in (known := await self.handlers()):
            broken = "".join(f"; {each}" for each in await self.problems())
            return f"no handler {subtype!r}; there are: {', '.join(known)}{broken}"
        path = names.path(subtype)
        if utf8(config) != config:
            return f"{utf8(config)!r} is no UTF-8, which D-Bus cannot say: only LIO's own files can"
        good, why = await self._call(path, names.HANDLER.name, "CheckConfig", "s", config)
        return "" if good else str(why)

    async def drain(self, name: str, seconds: float) -> bool:
        """See Controllable."""
        (drained,) = await self._call(await self._path(name), wire.DEVICE.name, "Drain", "d", seconds)
        return bool(drained)

    async def restart(self, name: str) -> None:
        """See Controllable."""
        await self._call(await self._path(name), wire.DEVICE.name, "Restart")

    async def resize(self, name: str, size: int) -> None:
        """See Controllable."""
        await self._call(await self._path(name), wire.DEVICE.name, "Resize", "t", size)

    async def control(self, name: str, layer: str, table: Mapping[str, object]) -> dict[str, Any]:
        """See Controllable."""
        arguments = (layer, dict(table))
        (told,) = await self._call(await self._path(name), wire.LAYERS.name, "Control", "sa{sv}", *arguments)
        return dict(told)

    async def _path(self, name: str) -> str:
        """The path of a device's object, by the name in `devices`."""
        if wire.is_exact(name):
            return wire.path(name)
        for path, interfaces in (await self._objects()).items():
            if interfaces[wire.DEVICE.name]["Name"] == name:
                return path
        return wire.path(name)

    async def _objects(self) -> dict[str, Any]:
        (objects,) = await self._call(wire.ROOT, standard.MANAGER.name, "GetManagedObjects")
        return dict(objects)

    async def _call(
        self, path: str, interface: str, method: str, signature: str = "", *arguments: object
    ) -> list[Any]:
        """The method's results."""
        try:
            return await self._ask(MethodCall(path, interface, method, signature, arguments))
        except CallError as error:
            raise _error(error, path) from None

    async def _ask(self, request: MethodCall) -> list[Any]:
        """Calls over the bus or the socket. Raises CallError or TcmuError."""
        absent = self._no_bus
        if self._bus is not None:
            try:
                return await self._bus.call(request)
            except CallError as error:
                if error.name not in _NOBODY:
                    raise
            absent = f"nobody is {self._name} on the system bus"
        try:
            return await over_socket.call(self._control, request)
        except PermissionError:  # the daemon may be running
            raise DeviceError(f"{absent}, and only root may connect to {self._control}") from None
        except OSError as error:
            why = f"{absent}, and cannot reach {self._control}: {error.strerror or error}"
        if self._bus is not None and self._start:
            return await self._bus.call(request, start=True)
        raise NotRunningError(why)


def _error(error: CallError, path: str) -> TcmuError:
    name, text = error.name, str(error)
    if name.startswith(ERRORS):
        return DeviceError(text, getattr(errno, name.removeprefix(ERRORS), errno.EIO))
    if name in _NOBODY:  # systemd should have started it
        return NotRunningError(text)
    if name == DBUS_ERRORS + "UnknownObject":
        what = path.rpartition("/devices/")[2]
        return DeviceError(f"no device {what}: tcmu-runner list shows them", errno.ENODEV)
    return DeviceError(_REMEDIES.get(name, f"tcmu-runner answers {name}: {text}"))
