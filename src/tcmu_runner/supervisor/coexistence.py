"""Devices of other daemons on the same kernel: each event reaches all of them, one answer ends the wait."""

from __future__ import annotations

from collections.abc import Collection, Container

from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.genl import Event
from tcmu_runner.kernel.uio import DeviceName

ALL = "*"


class OtherDaemons:
    """Which devices are none of our business. others: subtypes that another daemon serves; ALL: every one
    that no handler of ours has. `registered` are those of processes that have told us, which come and go."""

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
        try:
            return DeviceName.parse(event.device).config in self
        except ValueError:  # nobody else will answer for that
            return False
