"""The supervisor's side of worker processes. All on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakSet

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.transport import TransportGoneError
from tcmu_runner.errors import DeviceError
from tcmu_runner.kernel.messages import (
    MAX_LENGTH,
    Adjust,
    Broken,
    Close,
    Control,
    Done,
    Drain,
    LogTo,
    Open,
    Request,
    Resize,
    Started,
    Table,
    Watch,
    decode,
    encode,
)
from tcmu_runner.kernel.servers import Terms, Trouble
from tcmu_runner.kernel.template import Template
from tcmu_runner.kernel.uio import UioDevice, UioEntry

QUIET_SECONDS = 0.5  # after the last new worker, before a spare one is made
SILENT_SECONDS = 10.0  # a worker that has not answered for so long is killed
REASON_SECONDS = 0.05  # how long the news of a death waits for what the template knows of it

log = logging.getLogger(__name__)


class WorkerDiedError(DeviceError):
    """The worker process that served a device has ended."""


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


class WorkerProcess:
    """The supervisor's end of one worker. `troubles` are told when it has ended or a ring of theirs broke."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self.pid = 0
        self.alive = True
        self.troubles: dict[int, Trouble] = {}  # by minor, whom to tell
        self._loop.add_reader(control.fileno(), self._receive)
        self._watching: asyncio.Task[None] | None = None
        self._ending = ""
        self._obituary: asyncio.TimerHandle | None = None

    async def call(self, make: Callable[[int], Request], descriptors: Sequence[int] = ()) -> Done:
        """Sends a request and waits for its answer. Raises WorkerDiedError, or what the answer says."""
        request = make(next(self._ids))
        future = self._waiting[request.id] = self._loop.create_future()
        try:
            socket.send_fds(self._control, [encode(request)], descriptors)
            done: Done = await future
        except OSError:  # the socket is broken or closed
            raise self._death() from None
        finally:
            del self._waiting[request.id]
        if done.errno:
            raise DeviceError(done.text, done.errno)
        return done

    def log_to(self, level: int, descriptor: int) -> None:
        """One that has ended does not hear of it."""
        with suppress(OSError):
            socket.send_fds(self._control, [encode(LogTo(level))], [descriptor])

    def _receive(self) -> None:
        try:
            datagram = self._control.recv(MAX_LENGTH)
        except ConnectionResetError:
            datagram = b""
        if not datagram:
            self._lost()
            return
        match decode(datagram):
            case Done() as done:
                if done.id in self._waiting:
                    self._waiting[done.id].set_result(done)
            case Started() as started:
                self.pid = started.pid
            case Broken() as broken:
                gone = TransportGoneError(broken.text) if broken.gone else DeviceError(broken.text)
                self._tell(broken.minor, gone)

    def _tell(self, minor: int, error: Exception) -> None:
        if (trouble := self.troubles.get(minor)) is not None:
            trouble(error)

    def watch(self) -> None:
        """Has it look after its commands. One that does not answer is killed."""
        if self.alive and (self._watching is None or self._watching.done()):
            self._watching = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        answer = asyncio.ensure_future(self.call(Watch))
        for _ in range(2):  # the first time it may be us who stood still, its answer unread
            if (await asyncio.wait({answer}, timeout=SILENT_SECONDS / 2))[0]:
                answer.exception()  # it has died, which others are told
                return
        log.error("worker process %d has not answered for %.0f s and is killed", self.pid, SILENT_SECONDS)
        self.kill()
        await asyncio.wait({answer})
        answer.exception()

    # -- its end --------------------------------------------------------------------------------------

    def _lost(self) -> None:
        """Nothing of it is left: no thread of its own writes to a ring any more."""
        self.end()
        if self._ending:
            self._mourn()
        else:
            self._obituary = self._loop.call_later(REASON_SECONDS, self._mourn)

    def explain(self, status: int) -> None:
        """How it has ended; sooner or later than its socket tells that it has."""
        self._ending = f" ({_how(status)})"
        if self._obituary is not None:
            self._obituary.cancel()
            self._mourn()

    def _death(self) -> WorkerDiedError:
        return WorkerDiedError(f"its worker process has ended{self._ending}")

    def _mourn(self) -> None:
        self._obituary = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._death())
        for minor in list(self.troubles):
            self._tell(minor, self._death())

    def kill(self) -> None:
        """Ends the process; `troubles` hear of it as of any other death."""
        if not self.pid:
            self.end()  # it sees that when it gets so far as to say who it is
        elif self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Lets go of the worker, which then ends by itself."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control.fileno())
            self._control.close()


class Pool:
    """The workers: one for each device (`count` None), or `count` processes that all devices share.

    In quiet times a spare one stands by: a device whose worker has died is served again at once.
    """

    def __init__(self, template: Template, count: int | None, end: Callable[[], None]) -> None:
        """end: called when the template has ended, and with it all workers: there will be no others."""
        self._template = template
        self._count = count
        self._end = end
        self.lost = False
        asyncio.get_running_loop().add_reader(template.fileno(), self._hear)
        self._workers: WeakSet[WorkerProcess] = WeakSet()
        self._shared: list[WorkerProcess] = []
        self._spare: WorkerProcess | None = None
        self._preparing: asyncio.TimerHandle | None = None

    def lease(self) -> WorkerProcess:
        """A worker for one more device: the one with the fewest. Raises OSError when none can be forked."""
        if self._count is None:
            return self._new()
        self._shared = [worker for worker in self._shared if worker.alive]
        if len(self._shared) < self._count:
            self._shared.append(self._new())
        return min(self._shared, key=lambda worker: len(worker.troubles))

    def _new(self) -> WorkerProcess:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._prepare)
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.alive else self._fork()

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
        for worker in self._workers:
            if worker.pid == ended.pid:
                worker.explain(ended.status)

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

    def __init__(self, entry: UioEntry, pool: Pool, terms: Terms, trouble: Trouble) -> None:
        self._entry = entry
        self._terms = terms
        self._pool = pool
        self._worker = pool.lease()
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

    async def open(self, uio: UioDevice, statistics: int) -> tuple[int, int]:
        minor, name = self._entry.minor, str(self._entry.name)
        descriptors = (uio.fileno(), statistics)
        told, stack = self._terms.overrides, self._terms.stack
        table = stack.table if stack is not None else None
        done = await self._worker.call(
            lambda number: Open(number, minor, name, told.identity, told.limits, table), descriptors
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
