"""The guardian: a second, small process that ends the kernel's waits when the daemon cannot answer.

The kernel lets `enable` and `rmdir` of a device wait for the daemon's reply without a limit, also when the
daemon is dead. The guardian has the other end of a socket. When the supervisor dies, the guardian blocks the
daemon's devices (initiators retry), resets their rings, ends every wait with EINTR and switches waits off.
Workers may outlive the supervisor for a moment and write to rings until they end, so each process of the
daemon inherits the write end of a pipe, and the guardian waits for the pipe's end of file. Only the
supervisor has the socket: a worker must not be able to send messages on it. When the supervisor only stalls,
the guardian ends the waits and sends RELEASED.

After the daemon's end, in order or not, the guardian stays for administrators that unlink its LUNs, until
another daemon runs or no device is left (see guardian.unlinking).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from tcmu_runner.guardian.unlinking import stay
from tcmu_runner.guardian.watchdog import Poll, Watchdog, poll
from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.modules import NetlinkGate
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Logs
from tcmu_runner.sandbox import name_process

STALL_SECONDS = 10.0

BEAT, SERVE, DROP, LOG, BYE = "beat", "serve", "drop", "log", "bye"
RELEASED, GONE = "released", "gone"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """The guardian's descriptors. line: the socket to the supervisor. life: the read end of the pipe that all
    processes of the daemon hold open for writing."""

    line: socket.socket
    life: int

    def close(self) -> None:
        self.line.close()
        os.close(self.life)


def guard(ends: Ends, daemon: int, paths: Paths, lock: Callable[[], DaemonLock], logs: Logs) -> NoReturn:
    """Runs the guardian in its own process, to its end."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a terminal sends them to us, too
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
    """The daemon has ended. Gives up the terminal or pipes, so that no reader waits for our end, and allows
    SIGTERM again: at a shutdown systemd sends it to all processes at once and waits 90 s. One that was
    blocked until now is delivered here, and ends us."""
    name_process("tcmu-unlinking")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)


Served = set[tuple[int, str]]


class _Told:
    """What the supervisor has sent so far: the devices that it serves."""

    def __init__(self, watchdog: Watchdog, logs: Logs) -> None:
        self._watchdog = watchdog
        self._logs = logs
        self.devices: Served = set()

    def take(self, message: str, descriptors: list[int]) -> None:
        match message.split(" "):
            case ["beat"]:
                self._watchdog.beat()
            case ["serve", hba, device]:
                self.devices.add((int(hba), device))
            case ["drop", hba, device]:
                self.devices.discard((int(hba), device))
            case ["log", level]:
                self._logs.set_level(int(level))
                self._logs.follow(*descriptors)


def watch(
    ends: Ends, paths: Paths, logs: Logs, replaced: Callable[[], bool], poll: Poll = poll
) -> Served | None:
    """Runs until the daemon has ended. Returns the devices that it served then; None after a goodbye. None of
    the daemon's descriptors is open here after that. replaced: whether another daemon runs already while
    workers of this one have not ended: the kernel then waits for that one. poll: see Watchdog."""
    end = ends.line
    watchdog = Watchdog(end, ends.life, STALL_SECONDS, poll)
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
    """The next message; empty at the supervisor's end, after all that it has sent."""
    while True:
        with suppress(ConnectionResetError):  # reported once if it died with messages of ours unread
            datagram, descriptors, _, _ = socket.recv_fds(end, 4096, 1)
            return datagram.decode(errors="surrogateescape"), descriptors


def _end_waits(end: socket.socket, paths: Paths) -> None:
    log.error("the daemon has been silent for %.0f s: failed the commands that wait for it", STALL_SECONDS)
    release_waits(paths)
    with suppress(OSError):  # it died meanwhile: `watch` reads end of file next, and knows its devices
        end.send(RELEASED.encode())


def release_waits(paths: Paths) -> None:
    """Ends every wait of the kernel with EINTR and switches waits off: later events need no reply."""
    gate = NetlinkGate(paths)
    gate.block_and_reset()
    try:
        TcmuNetlink(replies=False).close()
    finally:
        gate.unblock()


def _tidy_up(devices: Served, paths: Paths, lock: DaemonLock) -> None:
    """Blocks the daemon's devices, unless a new daemon has the lock: that one takes them over."""
    if not lock.try_acquire():
        return
    with lock:
        log.error("the daemon has died: blocked %d devices until it is back", len(devices))
        release_waits(paths)
        for hba, device in devices:
            store = Backstore(hba, device, paths)
            try:
                store.block()
                store.reset_ring(ResetStatus.BUSY)
            except OSError as error:
                log.error("%s", error)
