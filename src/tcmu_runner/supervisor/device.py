"""One device of the kernel as the supervisor sees it: its UIO descriptor, its actions, its server."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress

from tcmu_runner.aio import in_thread
from tcmu_runner.engine.observe import statistics
from tcmu_runner.engine.observe.statistics import Snapshot, Statistics
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import DeviceError, TcmuError
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.genl import Event, EventKind
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.ring_monitor import RingActivity, RingMonitor
from tcmu_runner.kernel.uio import UioDevice, UioEntry
from tcmu_runner.supervisor.admission import OpenLimiter
from tcmu_runner.workers.protocol import Table
from tcmu_runner.workers.ring_ready import RingReady
from tcmu_runner.workers.server import Facts, Server
from tcmu_runner.workers.state_files import StateFiles

OPEN_SECONDS = 10.0  # how long an administrator's `enable` may wait for a handler's open
CLOSE_SECONDS = 20.0  # how long a removal waits for a handler's close before its worker is killed
HOLDER_SECONDS = 10.0  # how long an adoption waits for the last daemon's processes to let go
CONTROL_SECONDS = 10.0  # how long a filter or handler may take to change
KILLED_SECONDS = 5.0  # how long the end of a killed worker is waited for
RETRY_SECONDS = 0.05

log = logging.getLogger(__name__)


class KernelDevice:
    """Its coroutines run one at a time. `make_server` gives a server for each opening, and is passed whether
    the device was served until now. `open_limiter` limits how many devices open at once; `ring_monitor`
    becomes readable when a command comes to the device."""

    def __init__(
        self,
        entry: UioEntry,
        paths: Paths,
        open_limiter: OpenLimiter,
        ring_monitor: RingMonitor,
        make_server: Callable[[KernelDevice, bool], Server],
    ) -> None:
        self.entry = entry
        self._open_limiter = open_limiter
        self._ring_monitor = ring_monitor
        self._paths = paths
        self._make_server = make_server
        self._store = Backstore(entry.name.hba, entry.name.device, paths)
        self._uio: UioDevice | None = None
        self._ring_activity: RingActivity | None = None
        self._server: Server | None = None
        self._state: StateFiles | None = None
        self._counters = statistics.create()
        self.size = self.block_size = 0

    @property
    def name(self) -> str:
        """user_0/vol0"""
        return self._store.name

    @property
    def pid(self) -> int:
        """Of the process that serves it, 0 without any."""
        return self._server.pid if self._server is not None else 0

    @property
    def title(self) -> str:
        """As an administrator knows it: user_0/vol0 (file//srv/disk.img)."""
        return f"{self.name} ({self.entry.name.config})"

    async def open(self) -> None:
        """Serves a new device. Raises TcmuError or OSError: nothing is left open then."""
        self._uio = UioDevice.open(self.entry.minor, self._paths)
        try:
            self._ring_activity = RingActivity(self._uio, self._ring_monitor)
            await in_thread(self._store.notify_task_management)
            self._state = await in_thread(lambda: self._open_state(is_new=True))
            await self._serve(self._start(self._uio, running=False))
            await in_thread(self._show_write_cache)
        except BaseException:
            if self._state is not None:
                self._state.forget()
            self._let_go()
            await self._wait_until_free()
            raise

    def _show_write_cache(self) -> None:
        """So that tools which save attributes restore what is so anyway."""
        with suppress(OSError):  # a kernel before 4.13 has no such file
            self._store.show_write_cache(self.write_cache())

    def write_cache(self) -> bool:
        """WCE as it is now. Blocks. Raises OSError."""
        return self._state is not None and self._state.write_cache()

    async def _wait_until_free(self) -> None:
        """A refusal makes the kernel take the node away. Were it closed only after that, by a worker that has
        just been killed, the kernel would never hear of it and refuse every further `enable` with EBUSY."""
        with suppress(OSError):
            (await self._open_when_free(KILLED_SECONDS)).close()

    async def _serve(self, opening: Coroutine[None, None, Facts]) -> None:
        self.size, self.block_size = await self._open_limiter.run(opening, OPEN_SECONDS)

    async def _start(self, uio: UioDevice, ring_ready: RingReady | None = None, *, running: bool) -> Facts:
        server = self._make_server(self, running)
        try:
            assert self._state is not None
            facts = await server.serve(uio, self._counters, self._state, ring_ready)
        except BaseException:
            await self._kill(server)  # it may write to the ring until it has ended
            raise
        self._server = server
        return facts

    async def adopt(self) -> None:
        """Takes over a device that another daemon has left: everything under way is retried by its initiator.

        Only who has the UIO node open may reset the ring: then no process of the last daemon can write to it
        any more. A storage that cannot be opened leaves the device blocked: initiators retry, nothing fails.
        """
        await in_thread(self._store.block)
        self._uio = await self._open_when_free(HOLDER_SECONDS)
        try:
            self._ring_activity = RingActivity(self._uio, self._ring_monitor)
            await in_thread(self._store.notify_task_management)
            self._state = await in_thread(lambda: self._open_state(is_new=False))
            await self._serve_anew(self._uio)
        except BaseException:
            self._let_go()
            raise

    def _open_state(self, *, is_new: bool) -> StateFiles:
        device_id = self._store.device_id()
        state = StateFiles(self.entry.name, self._paths)
        try:
            (state.begin if is_new else state.resume)(device_id)
        except BaseException:
            state.close()
            raise
        return state

    async def _serve_anew(self, uio: UioDevice) -> None:
        """A new server opens the storage while the ring is emptied, and looks at the ring only after that.
        What initiators send meanwhile waits there, which is faster than to tell them to try again; only where
        nobody comes to serve it the device is left blocked."""
        try:
            await self._serve(self._start_while_emptying(uio))
        except BaseException:
            await in_thread(self._store.quiesce)
            raise

    async def _start_while_emptying(self, uio: UioDevice) -> Facts:
        """In its turn: nothing waits on the ring of a device whose turn has not come."""
        ring_ready = RingReady()
        emptied = in_thread(lambda: self._empty(ring_ready))
        try:
            return await self._start(uio, ring_ready, running=True)
        except Exception:
            await emptied  # a server without its go-ahead has failed and does not know why
            raise
        finally:
            emptied.cancel()  # nobody waits for it any more
            ring_ready.close()

    def _empty(self, ring_ready: RingReady) -> None:
        with ring_ready:
            self._store.quiesce()
            self._store.unblock()

    async def _open_when_free(self, seconds: float) -> UioDevice:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                return UioDevice.open(self.entry.minor, self._paths)
            except OSError as error:
                if error.errno != errno.EBUSY or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def restart(self) -> None:
        """After the end of its server or a corrupt ring: everything under way is retried on a fresh ring."""
        if self._server is not None and not self._server.ended:
            await in_thread(self._store.block)  # what comes while it closes is retried, too
            await self._end_server()
        self._server = None
        assert self._uio is not None
        await self._serve_anew(self._uio)

    async def hold(self) -> None:
        """While nobody serves it: initiators try again with everything, instead of waiting for an answer."""
        alone = self._server is None or self._server.ended  # else it may still write to the ring
        await in_thread(self._store.quiesce if alone else self._store.block)

    async def _end_server(self) -> None:
        """Raises DeviceError when it does not even end when it is killed: it may still write to the ring."""
        if self._server is None:
            return
        try:
            await asyncio.wait_for(self._server.close(), CLOSE_SECONDS)
        except TimeoutError:
            log.error("%s: its handler did not close in %.0f s and is killed", self.title, CLOSE_SECONDS)
            await self._kill(self._server)
        self._server = None

    async def _kill(self, server: Server) -> None:
        server.kill()
        deadline = asyncio.get_running_loop().time() + KILLED_SECONDS
        while not server.ended:
            if asyncio.get_running_loop().time() > deadline:
                raise DeviceError("its server does not end, its storage holds it: no other may serve yet")
            await asyncio.sleep(RETRY_SECONDS)

    async def drain(self, seconds: float) -> bool:
        """Blocks the device, lets the commands under way end and closes the storage: `restart` serves it
        again. False when they did not end in time: nothing has changed then."""
        await in_thread(self._store.block)
        try:
            drained = self._server is None or await self._server.drain(seconds)
        except BaseException:
            await in_thread(self._store.unblock)
            raise
        if drained:
            await self._end_server()
        else:
            await in_thread(self._store.unblock)
        return drained

    async def stop(self, seconds: float) -> bool:
        """Blocks the device, lets the commands under way end, closes. False when they did not end in time, or
        their server did before: they are retried. Raises TcmuError or OSError: it is blocked, at least."""
        await in_thread(self._store.block)
        server = self._server
        try:
            drained = server is None or await server.drain(seconds)
        except TcmuError:
            drained = False
        if not drained and server is not None:
            await self._kill(server)
            await in_thread(self._store.reset_ring)
        await self.close()
        return drained

    async def close(self) -> None:
        """Ends serving. Does not look at the device's configfs: during its removal that would deadlock."""
        with suppress(DeviceError):  # then the kernel keeps the device for it, out of everybody's sight
            await self._end_server()
        self._let_go()

    async def remove(self) -> None:
        """`close`, for a device that is gone: what initiators have set of it is over."""
        state, self._state = self._state, None
        await self.close()
        if state is not None:
            await in_thread(state.forget)
            state.close()

    def watch(self) -> bool:
        """To be called about every second. Whether anything happens on its ring: else nobody is woken.
        Commands may wait there for a server that is yet to come."""
        if self._ring_activity is None or not self._ring_activity.stirs():
            return False
        if self._server is not None:
            self._server.watch()
        return True

    def snapshot(self) -> Snapshot:
        """What the device has done since this daemon serves it, over all its workers."""
        counters = Statistics(self._counters)
        try:
            return counters.snapshot()
        finally:
            counters.close()

    def __del__(self) -> None:
        os.close(self._counters)

    def _let_go(self) -> None:
        if self._ring_activity is not None:
            self._ring_activity.close()
            self._ring_activity = None
        if self._uio is not None:
            self._uio.close()
            self._uio = None
        if self._state is not None:
            self._state.close()
            self._state = None

    async def resize(self, size: int) -> None:
        """Raises TcmuError or OSError: the size is as before."""
        if self._server is None:
            raise OSError(errno.EAGAIN, f"{self.title} is not served at the moment: try again")
        await asyncio.wait_for(self._server.resize(size), OPEN_SECONDS)
        self.size = size

    async def control(self, layer: str, table: Table) -> Table:
        """Raises TcmuError or OSError: nothing has changed."""
        if self._server is None:
            raise OSError(errno.EAGAIN, f"{self.title} is not served at the moment: try again")
        return await asyncio.wait_for(self._server.control(layer, table), CONTROL_SECONDS)

    async def adjust(self, overrides: Overrides) -> None:
        """Raises TcmuError or OSError."""
        if self._server is not None:
            await asyncio.wait_for(self._server.adjust(overrides), OPEN_SECONDS)

    def pending_addition(self) -> Event | None:
        """The lost event of a device that the kernel is still adding, made up anew; None when it is not.

        Until it is added the kernel refuses every action with EINVAL. Blocks.
        """
        try:
            self._store.block()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return Event(EventKind.ADDED, str(self.entry.name), self.entry.minor, self._store.device_id(), 2)
        return None
