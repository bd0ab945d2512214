"""The supervisor's end of a worker process. All on the event loop."""

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

SILENT_SECONDS = 10.0  # a worker that has not answered for so long is killed
REASON_SECONDS = 0.05  # how long the news of a death waits for what the forkserver knows of it

log = logging.getLogger(__name__)


class WorkerDiedError(DeviceError):
    """The worker process that served a device has ended. How, is known a little later: see `explained`.

    patience: seconds for which `explained` waits at most; None: REASON_SECONDS."""

    def __init__(self, patience: float | None = None) -> None:
        super().__init__("its worker process has ended")
        self._patience = REASON_SECONDS if patience is None else patience
        self._how = ""
        self._explained = asyncio.Event()

    def __str__(self) -> str:
        return super().__str__() + self._how

    def explain(self, status: int) -> None:
        self._how = f" ({_how(status)})"
        self._explained.set()

    async def explained(self) -> None:
        """Waits a moment for the cause to be part of the text."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._explained.wait(), self._patience)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


class WorkerHandle:
    """The supervisor's end of one worker. `troubles` are told when it has ended or a ring of theirs broke."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self.pid = 0  # until the forkserver has named it
        self._answers = False
        self._reaped = False
        self.alive = True
        self._condemned = False
        self.troubles: dict[int, Trouble] = {}  # by minor, whom to tell
        self._loop.add_reader(control.fileno(), self._receive)
        self._watching: asyncio.Task[None] | None = None
        self._death = WorkerDiedError()

    @property
    def ready(self) -> bool:
        """Whether it would answer at once."""
        return self.alive and self._answers

    def is_process(self, pid: int) -> None:
        """The forkserver names it, not the worker itself: `kill` has the rights of root."""
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
            # The kernel takes no other numbers for errors (MAX_ERRNO), and would wait for another answer.
            raise DeviceError(done.text, done.errno if 0 < done.errno < 4096 else errno.EIO)
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
            case Broken() as broken:  # of its own devices: no other is among `troubles`
                gone = TransportGoneError(broken.text) if broken.gone else DeviceError(broken.text)
                self._tell(broken.minor, gone)
            case _:
                self._condemn(f"it sent {type(message).__name__}, which is for others to say")

    def _condemn(self, why: str) -> None:
        """It does not keep to the protocol: it may be another's by now. One line, however much it sends."""
        if not self._condemned:
            log.error("worker process %d: %s: it is killed", self.pid, why)
        self.kill()

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
        """Nothing of it is left: no thread of its own writes to a ring any more. Initiators wait, so that is
        told at once; its cause comes later."""
        self.end()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError())
        for minor in list(self.troubles):
            self._tell(minor, self._death)

    def explain(self, status: int) -> None:
        """How it has ended; sooner or later than its socket tells that it has. From now on its number may be
        another process's."""
        self._reaped = True
        self._death.explain(status)

    async def _explained(self) -> WorkerDiedError:
        await self._death.explained()
        return self._death

    def kill(self) -> None:
        """Ends the process as soon as the forkserver has named it; `troubles` hear of it as of other
        deaths."""
        self._condemned = True
        if self.alive and self.pid and not self._reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Lets go of the worker, which then ends by itself."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
