"""Who serves a device's ring: what the supervisor asks of it, and a server in its own process."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.engine.lun import Description
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.ring_thread import RingThread
from tcmu_runner.engine.threads import in_thread
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.go_ahead import GoAhead
from tcmu_runner.kernel.lun import KernelLun
from tcmu_runner.kernel.messages import Table
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioDevice, UioEntry
from tcmu_runner.settings import StackSettings

Facts = tuple[int, int]  # size and block size in bytes
Trouble = Callable[[Exception], None]  # called on the event loop: the server cannot go on
MakeServer = Callable[[UioEntry, Trouble, bool], "Server"]  # the last: initiators wait for it already


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of a device that is opened. stack: where its config string names one."""

    overrides: Overrides
    stack: StackSettings | None


class Server(Protocol):
    """Methods raise TcmuError or OSError as the handler does. pid: of the process that serves."""

    @property
    def pid(self) -> int: ...

    @property
    def ended(self) -> bool:
        """Whether nobody is there any more to do anything with the ring, or to be asked."""

    async def serve(self, uio: UioDevice, statistics: int, go_ahead: GoAhead | None) -> Facts:
        """Opens the storage and serves the ring. The caller keeps what it gives. Nobody looks at the ring
        before the go-ahead; None: there is nothing to wait for."""

    async def drain(self, seconds: float) -> bool:
        """Whether no command was under way any more before the time was up."""

    async def resize(self, size: int) -> None: ...

    async def control(self, layer: str, table: Table) -> Table:
        """See engine.view.Controllable."""

    async def adjust(self, overrides: Overrides) -> None: ...

    async def close(self) -> None: ...

    def watch(self) -> None:
        """To be called about every second while there are commands: see Lun.watch."""

    def kill(self) -> None:
        """Ends it without asking; what it still does to the ring's memory has ended when this device's UIO
        node can be opened again or the server is a worker."""


class LocalServer:
    """Serves in this process (workers = 0): a crash of a handler is a crash of all."""

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
        """thread: for the rings of all devices."""
        self._entry = entry
        self._registry = registry
        self._paths = paths
        self._overrides = terms.overrides  # its stack is in the registry
        self._trouble = trouble
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._lun: KernelLun | None = None
        self._killed = False
        self.ended = False
        self.pid = os.getpid()

    async def serve(self, uio: UioDevice, statistics: int, go_ahead: GoAhead | None) -> Facts:
        own = UioDevice(uio.minor, os.dup(uio.fileno()), self._paths)
        name, counters = self._entry.name, os.dup(statistics)
        waits_at = os.dup(go_ahead.waits_at) if go_ahead is not None else None
        lun = KernelLun(
            own, counters, name, self._registry, self._paths, overrides=self._overrides, go_ahead=waits_at
        )

        def open_storage() -> Description:
            description = lun.open()
            if self._killed:  # nobody waits for it any more
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
            self._lun.watch()

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
        self.ended = self._lun is None  # then it will never come to the ring
