"""All of D-Bus for the daemon: both branches, their signals, the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tcmu_runner.dbus.announcer import Announcer
from tcmu_runner.dbus.bus import Bus
from tcmu_runner.dbus.devices import DevicesBranch
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.names import SERVICE
from tcmu_runner.dbus.service import ServiceBranch
from tcmu_runner.dbus.tree import Tree
from tcmu_runner.engine.observe.view import Controllable
from tcmu_runner.handler.registry import Registry


@asynccontextmanager
async def presence(
    registry: Registry, device_manager: Controllable, version: str, externals: Externals, name: str = SERVICE
) -> AsyncIterator[None]:
    """Keeps the daemon on the bus while the context is open, also on a bus that starts later."""
    handlers, devices = ServiceBranch(registry, externals), DevicesBranch(device_manager, version)
    bus = externals.peers = Bus(name, Tree([handlers, devices]), externals)
    externals.subscribe(Announcer(handlers, bus.emit).poke)
    news = Announcer(devices, bus.emit)
    device_manager.subscribe(lambda _device: news.poke())
    await bus.start()
    try:
        yield
    finally:
        await bus.stop()
