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
from tcmu_runner.kernel.uio import RingActivity, UioDevice, UioEntry
from tcmu_runner.supervisor.admission import OpenLimiter
from tcmu_runner.workers.protocol import Table
from tcmu_runner.workers.server import DeviceServer, Facts
from tcmu_runner.workers.state_files import StateFiles

OPEN_SECONDS = 10.0  # how long the administrator's write to `enable` may wait for the handler's open
CLOSE_SECONDS = 20.0  # how long a removal waits for a handler's close before its worker is killed
HOLDER_SECONDS = 10.0  # how long an adoption waits until the last daemon's processes close the UIO device
CONTROL_SECONDS = 10.0  # how long a filter or handler may take to apply a change
KILLED_SECONDS = 5.0  # how long the supervisor waits for the end of a worker after SIGKILL
RETRY_SECONDS = 0.05

log = logging.getLogger(__name__)


class KernelDevice:
    """On the event loop; one coroutine at a time.

    open_limiter: limits how many devices open at once.
    make_server: called before each opening, with True when the device was served before this opening."""

    def __init__(
        self,
        entry: UioEntry,
        paths: Paths,
        open_limiter: OpenLimiter,
        make_server: Callable[[KernelDevice, bool], DeviceServer],
    ) -> None:
        self.entry = entry
        self._open_limiter = open_limiter
        self._paths = paths
        self._make_server = make_server
        self._store = Backstore(entry.name.hba, entry.name.device, paths)
        self._uio: UioDevice | None = None
        self._ring_activity: RingActivity | None = None
        self._server: DeviceServer | None = None
        self._state: StateFiles | None = None
        self._counters = statistics.create()
        self.size = self.block_size = 0

    @property
    def name(self) -> str:
        """user_0/vol0"""
        return self._store.name

    @property
    def pid(self) -> int:
        """Process id of the server; 0 without one."""
        return self._server.pid if self._server is not None else 0

    @property
    def title(self) -> str:
        """For log lines: user_0/vol0 (file//srv/disk.img)."""
        return f"{self.name} ({self.entry.name.config})"

    async def open(self) -> None:
        """Serves a new device. Raises TcmuError or OSError: nothing is left open then."""
        self._uio = UioDevice.open(self.entry.minor, self._paths)
        try:
            self._ring_activity = RingActivity(self._uio)
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
        """Stores WCE in emulate_write_cache, so that a tool's restore of attributes writes the value in
        force: set_write_cache refuses any other."""
        with suppress(OSError):  # a kernel before 4.13 has no such file
            self._store.show_write_cache(self.write_cache())

    def write_cache(self) -> bool:
        """WCE (SBC-4 6.4.6) as it is now. Blocks. Raises OSError."""
        return self._state is not None and self._state.write_cache()

    async def _wait_until_free(self) -> None:
        """Waits until a killed worker has closed the UIO node. Our refusal makes the kernel remove the node;
        if the worker closed it after that, the kernel would miss the close and fail each later `enable` with
        EBUSY."""
        with suppress(OSError):
            (await self._open_when_free(KILLED_SECONDS)).close()

    async def _serve(self, opening: Coroutine[None, None, Facts]) -> None:
        self.size, self.block_size = await self._open_limiter.run(opening, OPEN_SECONDS)

    async def _start(self, uio: UioDevice, *, running: bool) -> Facts:
        server = self._make_server(self, running)
        try:
            assert self._state is not None
            facts = await server.serve(uio, self._counters, self._state)
        except BaseException:
            await self._kill(server)  # it can write to the ring until it has ended
            raise
        self._server = server
        return facts

    async def adopt(self) -> None:
        """Takes over a device that another daemon has left; initiators retry the commands under way.

        Only the process that has the UIO node open may reset the ring: the kernel allows one opener, so no
        process of the last daemon can still write to it. If the storage cannot be opened, the device stays
        blocked: initiators retry, and no command fails.
        """
        await in_thread(self._store.block)
        self._uio = await self._open_when_free(HOLDER_SECONDS)
        try:
            self._ring_activity = RingActivity(self._uio)
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
        """Empties the ring and then starts a new server. Commands that arrive meanwhile wait on the ring:
        faster than BUSY and a retry. If no server starts, the device stays blocked."""
        try:
            await self._serve(self._start_on_empty_ring(uio))
        except BaseException:
            await in_thread(self._store.quiesce)
            raise

    async def _start_on_empty_ring(self, uio: UioDevice) -> Facts:
        """Runs within the open limiter's turn: until then the device stays blocked and no command waits on
        its ring."""
        await in_thread(self._empty)
        return await self._start(uio, running=True)

    def _empty(self) -> None:
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
        """For a server that ended, or a corrupt ring: a new server on an empty ring; initiators retry."""
        if self._server is not None and not self._server.ended:
            await in_thread(self._store.block)  # commands that arrive while it closes get BUSY
            await self._end_server()
        self._server = None
        assert self._uio is not None
        await self._serve_anew(self._uio)

    async def hold(self) -> None:
        """While no server runs: the kernel answers BUSY and initiators retry, instead of waiting."""
        alone = self._server is None or self._server.ended  # a live server may still write to the ring
        await in_thread(self._store.quiesce if alone else self._store.block)

    async def _end_server(self) -> None:
        """Raises DeviceError when the server survives SIGKILL: it may still write to the ring."""
        if self._server is None:
            return
        try:
            await asyncio.wait_for(self._server.close(), CLOSE_SECONDS)
        except TimeoutError:
            log.error("%s: handler did not close within %.0f s: killed its worker", self.title, CLOSE_SECONDS)
            await self._kill(self._server)
        self._server = None

    async def _kill(self, server: DeviceServer) -> None:
        server.kill()
        deadline = asyncio.get_running_loop().time() + KILLED_SECONDS
        while not server.ended:
            if asyncio.get_running_loop().time() > deadline:
                raise DeviceError("its worker survives SIGKILL, waiting for its storage: not replaced")
            await asyncio.sleep(RETRY_SECONDS)

    async def drain(self, seconds: float) -> bool:
        """Blocks the device, waits until no command is under way and closes the storage; `restart` serves it
        again. False when commands are left after `seconds`: the device is served as before."""
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
        """Blocks the device, waits until no command is under way, closes. False when commands are left after
        `seconds`, or the server had ended: initiators retry. Raises TcmuError or OSError: it stays
        blocked."""
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
        """Ends serving. Does not read the device's configfs: during its removal that would deadlock."""
        with suppress(DeviceError):  # a worker that survives has the UIO node open: the kernel keeps it
            await self._end_server()
        self._let_go()

    async def remove(self) -> None:
        """`close`, for a device that the kernel removes: also forgets what initiators have set (WCE, ...)."""
        state, self._state = self._state, None
        await self.close()
        if state is not None:
            await in_thread(state.forget)
            state.close()

    def watch(self) -> None:
        """Call about every second. Has the server look for late commands, and so shows whether it hangs; an
        idle worker is not woken for it."""
        stirs = self._ring_activity is not None and self._ring_activity.stirs()
        if stirs and self._server is not None:
            self._server.watch()

    def snapshot(self) -> Snapshot:
        """What the device has done since this daemon serves it, summed over all its workers."""
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
        """Raises TcmuError or OSError: the size has not changed."""
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
        """A made-up ADDED event if the kernel still waits for the reply to the real one, which was lost; else
        None.

        Until ADDED is answered the kernel refuses every action with EINVAL. Blocks.
        """
        try:
            self._store.block()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return Event(EventKind.ADDED, str(self.entry.name), self.entry.minor, self._store.device_id(), 2)
        return None
