"""Which worker process serves a device, and requests to it. All of it runs on the event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.handler.device import Origin
from tcmu_runner.kernel.uio import UioDevice, UioEntry
from tcmu_runner.workers.forkserver import ForkServer
from tcmu_runner.workers.handle import WorkerDiedError, WorkerHandle
from tcmu_runner.workers.protocol import Adjust, Close, Control, Drain, Forked, Resize, Serve, Table
from tcmu_runner.workers.server import Facts, Terms, Trouble
from tcmu_runner.workers.state_files import StateFiles

log = logging.getLogger(__name__)
QUIET_SECONDS = 1.0  # without a new worker, before a spare one is forked


class Pool:
    """The workers: one for each device (`count` None), or `count` processes that all devices share.

    A spare one waits, already warmed up: it replaces a worker that dies. New devices get a cold one: they can
    wait for a fork, and the pages that a warm-up touches are no longer shared.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        count: int | None,
        end: Callable[[], None],
        *,
        quiet_seconds: float = QUIET_SECONDS,
        make_handle: Callable[[socket.socket], WorkerHandle] = WorkerHandle,
    ) -> None:
        """end: called when the forkserver has ended, and all workers with it; no new one can be forked.
        quiet_seconds: so long after a new worker a spare one is forked. make_handle: called with a worker's
        socket."""
        self._fork_server = fork_server
        self._count = count
        self._end = end
        self._quiet_seconds = quiet_seconds
        self._make_handle = make_handle
        self.lost = False
        asyncio.get_running_loop().add_reader(fork_server.fileno(), self._hear)
        self._workers: set[WorkerHandle] = set()  # until the forkserver has sent their Ended
        self._unnamed: deque[WorkerHandle] = deque()  # forked, without a process id yet
        self._shared: list[WorkerHandle] = []
        self._spare: WorkerHandle | None = None
        self._preparing: asyncio.TimerHandle | None = None

    def lease(self, *, urgent: bool) -> WorkerHandle:
        """A worker for one more device; of shared ones, the one with the fewest devices. urgent: initiators
        wait, so the spare may be taken. Raises OSError when none can be forked."""
        if self._count is None:
            return self._new(urgent)
        self._shared = [worker for worker in self._shared if worker.alive]
        if len(self._shared) < self._count:
            self._shared.append(self._new(urgent))
        return min(self._shared, key=lambda worker: len(worker.troubles))

    def _new(self, urgent: bool) -> WorkerHandle:
        self._prepare_later()
        spare = self._spare
        if not urgent or spare is None or not spare.ready:
            return self._fork()
        self._spare = None
        return spare

    def close(self) -> None:
        """Stops forking. Call before the forkserver is closed."""
        self._do_not_prepare()
        asyncio.get_running_loop().remove_reader(self._fork_server.fileno())

    def _do_not_prepare(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()

    def _prepare_later(self) -> None:
        self._do_not_prepare()
        self._preparing = asyncio.get_running_loop().call_later(self._quiet_seconds, self._prepare)

    def _prepare(self) -> None:
        if self._spare is None or not self._spare.alive:
            try:
                self._spare = self._fork(rehearsed=True)
            except OSError as error:
                log.warning("no spare worker: %s: replacing a dead worker takes longer", error)

    def _fork(self, *, rehearsed: bool = False) -> WorkerHandle:
        worker = self._make_handle(self._fork_server.fork(rehearsed=rehearsed))
        self._workers.add(worker)
        self._unnamed.append(worker)
        return worker

    def _hear(self) -> None:
        message = self._fork_server.receive()
        if message is None:
            self.lost = True
            self.close()
            self._end()
        elif isinstance(message, Forked):
            self._name(self._unnamed.popleft(), message.pid)
        else:
            for worker in [each for each in self._workers if each.pid == message.pid]:
                worker.explain(message.status)
                self._workers.discard(worker)

    def _name(self, worker: WorkerHandle, pid: int) -> None:
        if pid:
            worker.is_process(pid)
        else:
            self._workers.discard(worker)  # its socket is closed, and no Ended follows

    def log_to(self, level: int, descriptor: int) -> None:
        """Sets level and file for all workers, also later ones."""
        self._fork_server.log_to(level, descriptor)
        for worker in self._workers:
            worker.log_to(level, descriptor)

    def give_back(self, worker: WorkerHandle) -> None:
        """The device is closed. Ends a worker that was its own."""
        if worker not in self._shared:
            worker.end()


class WorkerServer:
    """A Server in a worker process; requests go over the worker's socket."""

    def __init__(self, entry: UioEntry, pool: Pool, terms: Terms, trouble: Trouble) -> None:
        self._entry = entry
        self._terms = terms
        self._pool = pool
        self._worker = pool.lease(urgent=terms.origin is Origin.RUNNING)
        self._worker.troubles[entry.minor] = self._early
        self._trouble = trouble

    @property
    def pid(self) -> int:
        """0 until the forkserver has sent it."""
        return self._worker.pid

    @property
    def ended(self) -> bool:
        return not self._worker.alive

    def _early(self, _error: Exception) -> None:
        """While `serve` runs: it raises WorkerDiedError itself, so the device needs no second report."""

    async def serve(self, uio: UioDevice, statistics: int, state: StateFiles) -> Facts:
        minor, name = self._entry.minor, str(self._entry.name)
        told, stack = self._terms.overrides, self._terms.stack
        table, origin = stack.table if stack is not None else None, self._terms.origin.value
        done = await self._worker.call(
            lambda number: Serve(
                number, minor, name, told.identity, told.limits, table, origin, self._terms.serial
            ),
            [uio.fileno(), statistics, *state.descriptors],
        )
        self._worker.troubles[minor] = self._trouble
        return done.size, done.block_size

    async def drain(self, seconds: float) -> bool:
        done = await self._worker.call(lambda number: Drain(number, self._entry.minor, seconds))
        return done.drained

    async def resize(self, size: int) -> None:
        await self._worker.call(lambda number: Resize(number, self._entry.minor, size))

    async def control(self, layer: str, table: Table) -> Table:
        done = await self._worker.call(lambda number: Control(number, self._entry.minor, layer, table))
        return done.table

    async def adjust(self, overrides: Overrides) -> None:
        minor = self._entry.minor
        await self._worker.call(lambda number: Adjust(number, minor, overrides.identity, overrides.limits))

    async def close(self) -> None:
        self._worker.troubles.pop(self._entry.minor, None)
        with suppress(WorkerDiedError):
            await self._worker.call(lambda number: Close(number, self._entry.minor))
            self._pool.give_back(self._worker)

    def watch(self) -> None:
        self._worker.watch()

    def kill(self) -> None:
        """Ends the worker. Other devices of a shared one get new workers through their `troubles`."""
        self._worker.troubles.pop(self._entry.minor, None)
        self._worker.kill()
