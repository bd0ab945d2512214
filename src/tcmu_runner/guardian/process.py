"""A second, tiny process that keeps administrators' commands from hanging when the daemon cannot answer.

The kernel lets `enable` and `rmdir` of a device wait for the daemon without end, and keeps doing so when the
daemon is dead. The guardian holds the other end of a socket: when the daemon dies it blocks the daemon's
devices (initiators retry), resets their rings (nothing waits for the dead), ends every wait and tells the
kernel to wait no more. Workers may outlive the supervisor for a moment, and write to rings until they end. So
each process of the daemon holds the write end of a pipe, on which nothing is said, and the guardian waits for
the end of the last one. Only the supervisor holds the socket: what a worker said there would be believed.
When the supervisor only stands still, the guardian ends the waits and says so on the socket.

When the daemon has ended, in order or not, the guardian stays for administrators that unlink its LUNs, until
a daemon is back or no device is left (see guardian.unlinking).

A daemon with nothing to do says so and is silent then. The guardian sees on a duplicate of its netlink socket
that the kernel wants something of it: then the daemon has to say a word, or stands still.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NoReturn

from tcmu_runner.guardian.unlinking import stay
from tcmu_runner.guardian.watchdog import Watchdog
from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.modules import NetlinkGate
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Log
from tcmu_runner.sandbox import name_process

STALL_SECONDS = 10.0

BEAT, REST, HEAR, SERVE, DROP, LOG, BYE = "beat", "rest", "hear", "serve", "drop", "log", "bye"
RELEASED, GONE = "released", "gone"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """What the guardian has of the daemon. line: to the supervisor. life: the read end of the pipe that all
    processes of the daemon hold."""

    line: socket.socket
    life: int

    def close(self) -> None:
        self.line.close()
        os.close(self.life)


def guard(ends: Ends, daemon: int, paths: Paths, lock: Callable[[], DaemonLock], logs: Log) -> NoReturn:
    """The guardian's life, in its own process."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the daemon does
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        name_process("tcmu-guardian")
        devices = watch(ends, paths, logs, lambda: lock().is_anothers(daemon))
        if devices is not None:
            _tidy_up(devices, paths, lock())
        ends.close()
        _outlive()
        stay(paths, lock, daemon)
        status = 0
    except Exception:
        log.exception("the guardian failed")
    finally:
        os._exit(status)


def _outlive() -> None:
    """The daemon has ended, and nothing may wait for its output or its processes any longer. At a shutdown
    systemd has sent SIGTERM to all at once, and waits 90 s. Such a signal is pending, and ends this one."""
    name_process("tcmu-unlinking")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)


Served = set[tuple[int, str]]


class _Told:
    """What the daemon has said of itself so far."""

    def __init__(self, watchdog: Watchdog, logs: Log) -> None:
        self._watchdog = watchdog
        self._logs = logs
        self.devices: Served = set()

    def take(self, message: str, descriptors: list[int]) -> None:
        match message.split(" "):
            case ["beat"]:
                self._watchdog.beat()
            case ["rest"]:
                self._watchdog.rest()
            case ["hear"]:
                self._watchdog.hear(*descriptors)
            case ["serve", hba, device]:
                self.devices.add((int(hba), device))
            case ["drop", hba, device]:
                self.devices.discard((int(hba), device))
            case ["log", level]:
                self._logs.set_level(int(level))
                self._logs.follow(*descriptors)


def watch(ends: Ends, paths: Paths, logs: Log, replaced: Callable[[], bool]) -> Served | None:
    """Listens until the daemon has ended; what it served then, None when it has said goodbye. Nothing of the
    daemon's is open here after that. replaced: whether another daemon is there already, though workers of
    this one have not ended; the kernel waits for that one then."""
    end = ends.line
    with closing(Watchdog(end, ends.life, STALL_SECONDS)) as watchdog:
        told = _Told(watchdog, logs)
        while True:
            if not watchdog.wait():
                if not replaced():
                    _end_waits(end, paths)
                continue
            if watchdog.alone:
                return told.devices
            message, descriptors = _receive(end)
            if message == BYE:
                return None
            if message:
                told.take(message, descriptors)
            else:
                watchdog.await_workers()


def _receive(end: socket.socket) -> tuple[str, list[int]]:
    """A message, empty at the supervisor's end. All that it has said comes before."""
    while True:
        with suppress(ConnectionResetError):  # it died before it had read what we said, which is told once
            datagram, descriptors, _, _ = socket.recv_fds(end, 4096, 1)
            return datagram.decode(errors="surrogateescape"), descriptors


def _end_waits(end: socket.socket, paths: Paths) -> None:
    log.error("the daemon has stood still for %.0f s: commands waiting for it fail now", STALL_SECONDS)
    release_waits(paths)
    with suppress(OSError):  # it died meanwhile: `watch` reads its end next, and keeps what it served
        end.send(RELEASED.encode())


def release_waits(paths: Paths) -> None:
    """Ends every wait of the kernel with EINTR and tells it not to wait from now on."""
    gate = NetlinkGate(paths)
    gate.block_and_reset()
    try:
        TcmuNetlink(replies=False).close()
    finally:
        gate.unblock()


def _tidy_up(devices: Served, paths: Paths, lock: DaemonLock) -> None:
    """A new daemon that holds the lock already takes everything over by itself."""
    if not lock.try_acquire():
        return
    with lock:
        log.error("the daemon has died; %d devices are blocked until it is back", len(devices))
        release_waits(paths)
        for hba, device in devices:
            store = Backstore(hba, device, paths)
            try:
                store.block()
                store.reset_ring(ResetStatus.BUSY)
            except OSError as error:
                log.error("%s", error)
