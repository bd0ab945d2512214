"""Devices of other daemons on the same kernel. Each daemon gets every netlink event; the first reply ends the
kernel's wait, so this daemon must not reply for devices of others."""

from __future__ import annotations

from collections.abc import Collection, Container

from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.genl import Event
from tcmu_runner.kernel.uio import DeviceName

ALL = "*"


class OtherDaemons:
    """Config strings of devices that other daemons serve.

    others: subtypes from the settings; ALL means each subtype for which this daemon has no handler.
    registered: subtypes for which other processes registered over D-Bus; they come and go."""

    def __init__(self, registry: Registry, others: Collection[str] = ()) -> None:
        self._registry = registry
        self._others = others
        self.registered: Container[str] = ()

    def __contains__(self, config: str) -> bool:
        """config: a device's config string."""
        subtype = config.partition("/")[0]
        if subtype in self._others or subtype in self.registered:
            return True
        return ALL in self._others and subtype not in {provider.subtype for provider in self._registry}

    def concerns(self, event: Event) -> bool:
        """Whether the event is about a device of another daemon."""
        try:
            return DeviceName.parse(event.device).config in self
        except ValueError:  # no daemon can parse the name: we reply, so that the kernel's wait ends
            return False
