"""A worker process: serves the devices that the supervisor hands it, until the supervisor is gone.

Its main thread speaks with the supervisor and otherwise sleeps: an idle device costs nothing. What may block
runs on a thread, so that it always answers.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.pace import MORE_CAUTION
from tcmu_runner.engine.ring_thread import RingThread
from tcmu_runner.engine.transport import TransportGoneError
from tcmu_runner.errors import TcmuError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.lun import KernelLun
from tcmu_runner.kernel.messages import (
    MAX_LENGTH,
    Adjust,
    Attach,
    Broken,
    Close,
    Control,
    Done,
    Drain,
    LogTo,
    Message,
    Open,
    Request,
    Resize,
    Started,
    Watch,
    decode,
    encode,
)
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.processes import Confinement, calm_down, confine, name_process
from tcmu_runner.kernel.reasons import reason
from tcmu_runner.kernel.uio import DeviceName, UioDevice
from tcmu_runner.logs import Log
from tcmu_runner.settings import StackSettings

HASTE_SECONDS = 1.0  # so long a worker is as urgent as the supervisor, after it has begun to serve

log = logging.getLogger(__name__)


class Worker:
    """One process; `run` returns when the supervisor has closed the socket."""

    def __init__(
        self,
        control: socket.socket,
        registry: Registry,
        paths: Paths,
        limits: Confinement,
        logs: Log,
        *,
        shared: bool,
    ) -> None:
        self._control = control
        self._limits = limits
        self._shared = shared
        self._thread = RingThread("rings", MORE_CAUTION) if shared else None
        self._confined = False
        self._registry = registry
        self._paths = paths
        self._logs = logs
        self._luns: dict[int, KernelLun] = {}
        self._sending = threading.Lock()

    def run(self) -> None:
        self._say(Started(os.getpid()))
        while True:
            try:
                datagram, descriptors, _, _ = socket.recv_fds(self._control, MAX_LENGTH, 2)
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
            case Open() if not self._prepare(message):
                pass
            case Attach():
                self._answer(message, descriptors)  # it does not block, and initiators wait for it
            case Open() if not self._shared:
                self._answer(message, descriptors)  # nothing else to do, and nobody else to wait
            case _:
                threading.Thread(
                    target=self._answer, args=(message, descriptors), name="request", daemon=True
                ).start()

    def _prepare(self, request: Open) -> bool:
        """What is for the main thread to do; False when that failed, and was answered."""
        if request.stack is not None:
            name = DeviceName.parse(request.name).config.partition("/")[0]
            stack = StackSettings.parse(name, request.stack)
            self._registry.put(
                self._registry.recipe(stack.name, stack.handler, stack.layers, stack.description)
            )
        return self._confined or self._confine(request)

    def _confine(self, first: Open) -> bool:
        """Before there is another thread. What its first device's handler asks for is left; where devices of
        all kinds may come, what any handler asks for. False when that failed, and was answered."""
        name_process("tcmu-worker" if self._shared else f"tcmu-dev:uio{first.minor}")
        try:
            confine(self._limits, self._privileges(first))
        except (TcmuError, OSError) as error:
            self._say(Done(first.id, *reason(error)))
            return False
        self._confined = True
        return True

    def _privileges(self, first: Open) -> frozenset[str]:
        if self._shared:
            return frozenset().union(*(handler.privileges for handler in self._registry))
        return self._registry.find(DeviceName.parse(first.name).config)[0].privileges

    def _answer(self, request: Message, descriptors: list[int]) -> None:
        assert isinstance(request, Request)
        try:
            done = self._do(request, descriptors)
        except Exception as error:
            code, text = reason(error)
            if not isinstance(error, OSError) and code and text.startswith("bug"):
                log.exception("%s failed", type(request).__name__)
            done = Done(request.id, code, text)
        self._say(done)

    def _do(self, request: Request, descriptors: list[int]) -> Done:
        match request:
            case Open():
                return self._open(request, *descriptors)
            case Attach(minor=minor):
                self._luns[minor].attach(lambda error: self._broken(minor, error), _end, self._thread)
                self._calm_down_later()
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

    def _calm_down_later(self) -> None:
        """Initiators that have waited for this process are served before others."""
        timer = threading.Timer(HASTE_SECONDS, calm_down, [self._limits.nice])
        timer.daemon = True
        timer.start()

    def _open(self, request: Open, descriptor: int, statistics: int) -> Done:
        uio = UioDevice(request.minor, descriptor, self._paths)
        name = DeviceName.parse(request.name)
        overrides = Overrides(request.identity, request.limits)
        lun = KernelLun(uio, statistics, name, self._registry, self._paths, overrides=overrides)
        description = lun.open()
        self._luns[request.minor] = lun
        return Done(request.id, size=description.size, block_size=description.block_size)

    def _broken(self, minor: int, error: Exception) -> None:
        self._say(Broken(minor, str(error), isinstance(error, TransportGoneError)))

    def _say(self, message: Message) -> None:
        with self._sending, suppress(OSError):  # the supervisor is gone: `run` sees it, too
            self._control.send(encode(message))


def _end() -> None:
    """Whatever hangs ends with the process; the supervisor starts a new one, and commands are retried."""
    log.error("commands are late: this worker process makes way for another one")
    os._exit(1)
