"""DeviceServer: what the supervisor calls to have a device served; LocalServer: one in its own process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.aio import in_thread
from tcmu_runner.engine.lun import Description
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.errors import ExhaustedError
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioDevice, UioEntry
from tcmu_runner.settings import StackSettings
from tcmu_runner.workers.lun import KernelLun
from tcmu_runner.workers.protocol import Table
from tcmu_runner.workers.state_files import StateFiles

log = logging.getLogger(__name__)

Facts = tuple[int, int]  # size and block size in bytes
Trouble = Callable[[Exception], None]  # called on the event loop: the server cannot go on
MakeServer = Callable[[UioEntry, Trouble, Origin], "DeviceServer"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device is opened with. overrides: from the settings. stack: of the settings, if the config
    string names one. origin: why it is opened; RUNNING: initiators wait for it already. serial: the unit
    serial number to report while LIO has none."""

    overrides: Overrides
    stack: StackSettings | None
    origin: Origin = Origin.NEW
    serial: str = ""


class DeviceServer(Protocol):
    """Methods raise TcmuError or OSError as the handler does. pid: of the process that serves."""

    @property
    def pid(self) -> int: ...

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left that could touch the ring or answer a request."""

    async def serve(self, uio: UioDevice, statistics: int, state: StateFiles) -> Facts:
        """Opens the storage and serves the ring. The caller keeps its descriptors; the server duplicates
        them."""

    async def drain(self, seconds: float) -> bool:
        """Whether no command was under way before `seconds` were over."""

    async def resize(self, size: int) -> None: ...

    async def control(self, layer: str, table: Table) -> Table:
        """See engine.observe.view.Controllable."""

    async def adjust(self, overrides: Overrides) -> None: ...

    async def close(self) -> None: ...

    def watch(self) -> None:
        """Checks for late commands (Lun.watch). Call about once a second while there are commands."""

    def kill(self) -> None:
        """Ends it without waiting. It has stopped writing to the ring's memory once `ended` is true."""


def duplicates(state: StateFiles) -> tuple[int, int]:
    current, lasting = state.descriptors
    return os.dup(current), os.dup(lasting)


class LocalServer:
    """Serves in this process (workers = 0): a handler that crashes ends the daemon and all its devices."""

    def __init__(
        self,
        entry: UioEntry,
        registry: Registry,
        paths: Paths,
        terms: Terms,
        trouble: Trouble,
        *,
        thread: RingThread,
    ) -> None:
        """thread: serves the rings of all devices."""
        self._entry = entry
        self._registry = registry
        self._paths = paths
        self._terms = terms  # its stack is in the registry
        self._trouble = trouble
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._lun: KernelLun | None = None
        self._killed = False
        self.ended = False
        self.pid = os.getpid()

    async def serve(self, uio: UioDevice, statistics: int, state: StateFiles) -> Facts:
        own = UioDevice(uio.minor, os.dup(uio.fileno()), self._paths)
        name, counters = self._entry.name, os.dup(statistics)
        lun = KernelLun(
            own, counters, name, self._registry, self._paths,
            overrides=self._terms.overrides, origin=self._terms.origin, state=duplicates(state),
            serial=self._terms.serial,
        )  # fmt: skip

        def open_storage() -> Description:
            description = lun.open()
            if self._killed:  # `serve` was cancelled, so no caller will close it
                lun.close()
            return description

        description = await in_thread(open_storage)
        if not self._killed:
            lun.attach(self._thread, self._broken)
            self._lun = lun
        return description.size, description.block_size

    def _broken(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self._trouble, error)

    def watch(self) -> None:
        if self._lun is not None:
            try:
                self._lun.watch()
            except ExhaustedError as error:  # threads or memory may be there at the next look
                log.warning("%s: %s: late commands not checked", self._entry.name, error)

    async def drain(self, seconds: float) -> bool:
        lun = self._lun
        return lun is None or await in_thread(lambda: lun.drain(seconds))

    async def resize(self, size: int) -> None:
        if (lun := self._lun) is not None:
            await in_thread(lambda: lun.resize(size))

    async def control(self, layer: str, table: Table) -> Table:
        if (lun := self._lun) is None:
            raise OSError(errno.EAGAIN, "it is not served at the moment: try again")
        return dict(await in_thread(lambda: lun.control(layer, table)))

    async def adjust(self, overrides: Overrides) -> None:
        if (lun := self._lun) is not None:
            lun.adjust(overrides)

    async def close(self) -> None:
        lun, self._lun = self._lun, None
        if lun is not None:
            await in_thread(lun.close)
        self.ended = True

    def kill(self) -> None:
        self._killed = True
        self.ended = self._lun is None  # not attached yet: it will not be, see `serve`
