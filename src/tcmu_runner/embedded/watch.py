"""What can be seen of a server of the embedded mode: engine.observe.view.Watchable, on the server's loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tcmu_runner.embedded.local import LocalLun
from tcmu_runner.embedded.server import Server
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.handler.registry import Provider, Registry


class ServerView:
    """Its LUNs are there, and served, as long as the server runs; nothing else happens to them."""

    def __init__(self, server: Server, registry: Registry) -> None:
        self._server = server
        self._registry = registry
        self._since = time.time()

    def devices(self) -> list[DeviceView]:
        return [self._view(number, lun) for number, lun in enumerate(self._server.luns)]

    def _view(self, number: int, local: LocalLun) -> DeviceView:
        description = local.lun.description
        return DeviceView(
            name=description.name,
            minor=number,
            handler=description.config.partition("/")[0],
            config=description.config,
            size=local.unit.size,
            block_size=local.block_size,
            state=State.SERVING if local.broken is None else State.FAILED,
            since=self._since,
            last_error=str(local.broken or ""),
            restarts=0,
            pid=os.getpid(),
            statistics=local.lun.statistics.snapshot(),
        )

    def device_events(self) -> list[DeviceEvent]:
        return []

    def problems(self) -> list[str]:
        return list(self._registry.problems)

    def handlers(self) -> list[Provider]:
        return list(self._registry)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Never calls `changed`: no LUN is added or removed while the server runs."""
