"""A worker process: serves the devices that the supervisor assigns to it, until the supervisor has ended.

Its main thread waits for the supervisor's messages, without a timer: an idle device costs no processor time.
Requests that may block run on threads of their own, so that the main thread always answers.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
from contextlib import suppress

from tcmu_runner.aio import start_thread
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.storage.blocking import CAUTION, MORE_CAUTION
from tcmu_runner.errors import ExhaustedError, TcmuError, TransportGoneError, explain
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioDevice
from tcmu_runner.logs import Logs
from tcmu_runner.sandbox import Confinement, calm_down, confine, name_process
from tcmu_runner.settings import StackSettings
from tcmu_runner.workers.lun import KernelLun
from tcmu_runner.workers.protocol import (
    MAX_LENGTH,
    Adjust,
    Broken,
    Close,
    Control,
    Done,
    Drain,
    LogTo,
    Message,
    Request,
    Resize,
    Serve,
    Started,
    Watch,
    decode,
    encode,
)
from tcmu_runner.workers.warm_spare import warm_up

log = logging.getLogger(__name__)


class Worker:
    """The main loop of one worker; `run` returns when the supervisor has closed the socket."""

    def __init__(
        self,
        control: socket.socket,
        registry: Registry,
        paths: Paths,
        limits: Confinement,
        logs: Logs,
        *,
        shared: bool,
    ) -> None:
        self._control = control
        self._limits = limits
        self._shared = shared
        self._thread = RingThread("rings", MORE_CAUTION if shared else CAUTION)
        self._confined = False
        self._hastens = True  # whether it still has the higher priority of a take-over
        self._registry = registry
        self._paths = paths
        self._logs = logs
        self._luns: dict[int, KernelLun] = {}
        self._sending = threading.Lock()

    def get_ready(self) -> None:
        """Call before `run` in a spare worker: does a dry run, so that the first device is served sooner."""
        urgency = os.getpriority(os.PRIO_PROCESS, 0)
        calm_down(self._limits.nice)  # during the dry run no initiator waits for this process
        warm_up()
        gc.freeze()  # later collections skip these objects, and so do not copy their pages
        with suppress(OSError):  # without CAP_SYS_NICE
            os.setpriority(os.PRIO_PROCESS, 0, urgency)

    def run(self) -> None:
        self._say(Started())
        while True:
            try:
                datagram, descriptors, _, _ = socket.recv_fds(self._control, MAX_LENGTH, 4)
            except ConnectionResetError:  # the supervisor died before it had read everything
                return
            if not datagram:
                return
            self._take(decode(datagram), descriptors)

    def _take(self, message: Message, descriptors: list[int]) -> None:
        match message:
            case LogTo():
                self._logs.set_level(message.level)
                self._logs.follow(*descriptors)
            case Watch():
                for lun in list(self._luns.values()):
                    lun.watch()
                self._say(Done(message.id))
                self._calm_down()
            case Serve() if not self._prepare(message):
                pass
            case Serve() if not self._shared:
                self._answer(message, descriptors)  # on the main thread: it has no other device to answer for
            case _:
                start_thread("request", self._answer, message, descriptors)

    def _prepare(self, request: Serve) -> bool:
        """The main thread's part of Serve. False when it failed; the request is answered then."""
        if request.stack is not None:
            name = DeviceName.parse(request.name).config.partition("/")[0]
            stack = StackSettings.parse(name, request.stack)
            self._registry.put(
                self._registry.definition(stack.name, stack.handler, stack.layers, stack.description)
            )
        return self._confined or self._confine(request)

    def _confine(self, first: Serve) -> bool:
        """Drops privileges for good, before there is another thread. Keeps those that the first device's
        handler needs; in a shared worker, those that any handler needs. False when it failed; the request is
        answered then."""
        name_process("tcmu-worker" if self._shared else f"tcmu-dev:uio{first.minor}")
        try:
            confine(self._limits, self._privileges(first))
        except (TcmuError, OSError) as error:
            self._say(Done(first.id, *explain(error)))
            return False
        self._confined = True
        return True

    def _privileges(self, first: Serve) -> frozenset[str]:
        if self._shared:
            return frozenset().union(*(handler.privileges for handler in self._registry))
        return self._registry.find(DeviceName.parse(first.name).config)[0].privileges

    def _answer(self, request: Message, descriptors: list[int]) -> None:
        assert isinstance(request, Request)
        try:
            done = self._do(request, descriptors)
        except Exception as error:
            code, text = explain(error)
            if not isinstance(error, OSError) and code and text.startswith("bug"):
                log.exception("%s failed", type(request).__name__)
            done = Done(request.id, code, text)
        self._say(done)

    def _do(self, request: Request, descriptors: list[int]) -> Done:
        match request:
            case Serve():
                return self._serve(request, *descriptors)
            case Drain():
                return Done(request.id, drained=self._luns[request.minor].drain(request.seconds))
            case Close():
                self._luns.pop(request.minor).close()
            case Resize():
                self._luns[request.minor].resize(request.size)
            case Control(table=table, layer=layer):
                return Done(request.id, table=dict(self._luns[request.minor].control(layer, table)))
            case Adjust():
                self._luns[request.minor].adjust(Overrides(request.identity, request.limits))
        return Done(request.id)

    def _calm_down(self) -> None:
        """Ends the priority of a take-over, in which initiators waited: from now on all workers are equal."""
        if self._hastens:
            self._hastens = False
            calm_down(self._limits.nice)

    def _serve(self, request: Serve, descriptor: int, statistics: int, *state: int) -> Done:
        current, lasting = state
        minor, uio = request.minor, UioDevice(request.minor, descriptor, self._paths)
        name = DeviceName.parse(request.name)
        overrides = Overrides(request.identity, request.limits)
        lun = KernelLun(
            uio, statistics, name, self._registry, self._paths,
            overrides=overrides, origin=Origin(request.origin), state=(current, lasting),
            serial=request.serial,
        )  # fmt: skip
        description = lun.open()
        lun.attach(self._thread, lambda error: self._broken(minor, error), _end)
        self._luns[minor] = lun
        return Done(request.id, size=description.size, block_size=description.block_size)

    def _broken(self, minor: int, error: Exception) -> None:
        if isinstance(error, ExhaustedError):
            log.error("worker process %d ends: %s", os.getpid(), error)
            os._exit(1)
        self._say(Broken(minor, str(error), isinstance(error, TransportGoneError)))

    def _say(self, message: Message) -> None:
        with self._sending, suppress(OSError):  # the supervisor has ended: `run` reads end of file next
            self._control.send(encode(message))


def _end() -> None:
    """Ends the process with all threads that hang; the supervisor starts a new one, initiators retry."""
    log.error("commands are late: ended this worker process, another one follows")
    os._exit(1)
