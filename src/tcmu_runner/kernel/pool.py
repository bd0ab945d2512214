"""Which worker process serves a device, and what is asked of it there. All on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.kernel.go_ahead import GoAhead
from tcmu_runner.kernel.messages import Adjust, Close, Control, Drain, Resize, Serve, Table
from tcmu_runner.kernel.servers import Facts, Terms, Trouble
from tcmu_runner.kernel.template import Template
from tcmu_runner.kernel.uio import UioDevice, UioEntry
from tcmu_runner.kernel.workers import WorkerDiedError, WorkerProcess

QUIET_SECONDS = 1.0  # after the last new worker, before a spare one is made


class Pool:
    """The workers: one for each device (`count` None), or `count` processes that all devices share.

    In quiet times a spare one stands by: a device whose worker has died is served again at once. A new device
    has the time to wait for a fork, and what the spare has rehearsed would cost it memory.
    """

    def __init__(self, template: Template, count: int | None, end: Callable[[], None]) -> None:
        """end: called when the template has ended, and with it all workers: there will be no others."""
        self._template = template
        self._count = count
        self._end = end
        self.lost = False
        asyncio.get_running_loop().add_reader(template.fileno(), self._hear)
        self._workers: set[WorkerProcess] = set()  # until the template tells how each has ended
        self._shared: list[WorkerProcess] = []
        self._spare: WorkerProcess | None = None
        self._preparing: asyncio.TimerHandle | None = None

    def lease(self, *, urgent: bool) -> WorkerProcess:
        """A worker for one more device: the one with the fewest. urgent: initiators wait for it already.
        Raises OSError when none can be forked."""
        if self._count is None:
            return self._new(urgent)
        self._shared = [worker for worker in self._shared if worker.alive]
        if len(self._shared) < self._count:
            self._shared.append(self._new(urgent))
        return min(self._shared, key=lambda worker: len(worker.troubles))

    def _new(self, urgent: bool) -> WorkerProcess:
        self._prepare_later()
        spare = self._spare
        if not urgent or spare is None or not spare.ready:
            return self._fork()
        self._spare = None
        return spare

    def _prepare_later(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._prepare)

    def _prepare(self) -> None:
        if self._spare is None or not self._spare.alive:
            self._spare = self._fork(rehearsed=True)

    def _fork(self, *, rehearsed: bool = False) -> WorkerProcess:
        worker = WorkerProcess(self._template.fork(rehearsed=rehearsed))
        self._workers.add(worker)
        return worker

    def _hear(self) -> None:
        ended = self._template.receive()
        if ended is None:
            self.lost = True
            asyncio.get_running_loop().remove_reader(self._template.fileno())
            self._end()
            return
        for worker in [each for each in self._workers if each.pid == ended.pid]:
            worker.explain(ended.status)
            self._workers.discard(worker)

    def log_to(self, level: int, descriptor: int) -> None:
        """For all workers, and those to come."""
        self._template.log_to(level, descriptor)
        for worker in self._workers:
            worker.log_to(level, descriptor)

    def give_back(self, worker: WorkerProcess) -> None:
        """The device is closed; a worker of its own ends with it."""
        if worker not in self._shared:
            worker.end()


class WorkerServer:
    """Serves in a worker process."""

    def __init__(self, entry: UioEntry, pool: Pool, terms: Terms, trouble: Trouble, *, urgent: bool) -> None:
        self._entry = entry
        self._terms = terms
        self._pool = pool
        self._worker = pool.lease(urgent=urgent)
        self._worker.troubles[entry.minor] = self._early
        self._trouble = trouble

    @property
    def pid(self) -> int:
        """0 until it has said which."""
        return self._worker.pid

    @property
    def ended(self) -> bool:
        return not self._worker.alive

    def _early(self, _error: Exception) -> None:
        """Before the device is served its caller hears of a death by itself."""

    async def serve(self, uio: UioDevice, statistics: int, go_ahead: GoAhead | None) -> Facts:
        minor, name = self._entry.minor, str(self._entry.name)
        descriptors = [uio.fileno(), statistics, *([go_ahead.waits_at] if go_ahead is not None else [])]
        told, stack = self._terms.overrides, self._terms.stack
        table = stack.table if stack is not None else None
        done = await self._worker.call(
            lambda number: Serve(number, minor, name, told.identity, told.limits, table), descriptors
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
        """All devices of the worker hear of it and start anew."""
        self._worker.troubles.pop(self._entry.minor, None)
        self._worker.kill()
