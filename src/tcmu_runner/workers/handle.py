"""The supervisor's end of a worker process. All of it runs on the event loop."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from tcmu_runner.errors import DeviceError, TransportGoneError
from tcmu_runner.workers.protocol import (
    MAX_LENGTH,
    Broken,
    Done,
    LogTo,
    Request,
    Started,
    Watch,
    decode,
    encode,
)
from tcmu_runner.workers.server import Trouble

SILENT_SECONDS = 10.0  # the supervisor kills a worker that has not answered for so long
REASON_SECONDS = 0.05  # how long the report of a death waits for the exit status from the forkserver

log = logging.getLogger(__name__)


class WorkerDiedError(DeviceError):
    """The worker process that served a device has ended. The exit status comes later: see `explained`.

    reason_seconds: `explained` waits no longer for it."""

    def __init__(self, reason_seconds: float = REASON_SECONDS) -> None:
        super().__init__("worker process ended")
        self._reason_seconds = reason_seconds
        self._how = ""
        self._explained = asyncio.Event()

    def __str__(self) -> str:
        return super().__str__() + self._how

    def explain(self, status: int) -> None:
        self._how = f" ({_how(status)})"
        self._explained.set()

    async def explained(self) -> None:
        """Waits up to `reason_seconds` until str(self) includes the exit status or signal."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._explained.wait(), self._reason_seconds)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


class WorkerHandle:
    """One worker. `troubles` are called when the worker has ended or the ring of their device is broken.

    silent_seconds: `watch` kills a worker that has not answered for so long. reason_seconds: see
    WorkerDiedError."""

    def __init__(
        self,
        control: socket.socket,
        silent_seconds: float = SILENT_SECONDS,
        reason_seconds: float = REASON_SECONDS,
    ) -> None:
        self._control = control
        self._silent_seconds = silent_seconds
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self.pid = 0  # until the forkserver's Forked
        self._answers = False
        self._reaped = False
        self.alive = True
        self._condemned = False
        self.troubles: dict[int, Trouble] = {}  # by minor
        self._loop.add_reader(control.fileno(), self._receive)
        self._watching: asyncio.Task[None] | None = None
        self._death = WorkerDiedError(reason_seconds)

    @property
    def ready(self) -> bool:
        """Whether it would answer a request at once."""
        return self.alive and self._answers

    def is_process(self, pid: int) -> None:
        """Sets the process id. It comes from the forkserver, not from the worker, which could name another
        process: `kill` runs as root."""
        self.pid = pid
        if self._condemned:
            self.kill()

    async def call(self, make: Callable[[int], Request], descriptors: Sequence[int] = ()) -> Done:
        """Sends a request and waits for its answer. Raises WorkerDiedError, or what the answer says."""
        request = make(next(self._ids))
        future = self._waiting[request.id] = self._loop.create_future()
        try:
            socket.send_fds(self._control, [encode(request)], descriptors)
            done: Done | None = await future
        except OSError:  # the socket is broken or closed
            done = None
        finally:
            del self._waiting[request.id]
        if done is None or not self.alive:
            raise await self._explained()
        if done.errno:
            # MAX_ERRNO: the kernel ignores a reply with a larger number and waits for another one.
            raise DeviceError(done.text, done.errno if 0 < done.errno < 4096 else errno.EIO)
        return done

    def log_to(self, level: int, descriptor: int) -> None:
        """Sends it the log's level and file; does nothing once the worker has ended."""
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
        try:
            message = decode(datagram)
        except DeviceError as error:
            self._condemn(str(error))
            return
        match message:
            case Done() as done:
                future = self._waiting.get(done.id)
                if future is not None and not future.done():
                    future.set_result(done)
            case Started():
                self._answers = True
            case Broken() as broken:  # a minor of another worker is not among `troubles`
                gone = TransportGoneError(broken.text) if broken.gone else DeviceError(broken.text)
                self._tell(broken.minor, gone)
            case _:
                self._condemn(f"it sent {type(message).__name__}, which no worker may send")

    def _condemn(self, why: str) -> None:
        """Kills a worker that breaks the protocol: an attacker may control it. Logs one line, however many
        messages it sends."""
        if not self._condemned:
            log.error("worker process %d: %s: killed", self.pid, why)
        self.kill()

    def _tell(self, minor: int, error: Exception) -> None:
        if (trouble := self.troubles.get(minor)) is not None:
            trouble(error)

    def watch(self) -> None:
        """Has the worker check its commands for late ones. Kills it when it does not answer."""
        if self.alive and (self._watching is None or self._watching.done()):
            self._watching = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        answer = asyncio.ensure_future(self.call(Watch))
        for _ in range(2):  # after the first wait the answer may be unread because our own loop was stopped
            if (await asyncio.wait({answer}, timeout=self._silent_seconds / 2))[0]:
                answer.exception()  # if the worker died: `troubles` are called for that
                return
        log.error("worker process %d: no answer for %.0f s: killed", self.pid, self._silent_seconds)
        self.kill()
        await asyncio.wait({answer})
        answer.exception()

    # -- its end --------------------------------------------------------------------------------------

    def _lost(self) -> None:
        """The socket is closed: no thread of the worker writes to a ring again. Calls `troubles` at once,
        since initiators wait; the exit status follows."""
        self.end()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError())
        for minor in list(self.troubles):
            self._tell(minor, self._death)

    def explain(self, status: int) -> None:
        """`status`: as of waitpid(2); comes before or after the socket closes. The process id is free from
        now on, so `kill` must not use it."""
        self._reaped = True
        self._death.explain(status)

    async def _explained(self) -> WorkerDiedError:
        await self._death.explained()
        return self._death

    def kill(self) -> None:
        """Kills the process, or does so once the forkserver has named it. `troubles` are called as for any
        death."""
        self._condemned = True
        if self.alive and self.pid and not self._reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Closes the socket; the worker then exits."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
