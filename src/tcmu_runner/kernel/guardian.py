"""A second, tiny process that keeps administrators' commands from hanging when the daemon cannot answer.

The kernel lets `enable` and `rmdir` of a device wait for the daemon without end, and keeps doing so when the
daemon is dead. The guardian holds the other end of a socket: when the daemon dies it blocks the daemon's
devices (initiators retry), resets their rings (nothing waits for the dead), ends every wait and tells the
kernel to wait no more. Workers hold the daemon's end, too, so it does that only when all of them are dead
and nothing can write to a ring any more. When the daemon only stands still, it ends the waits and says so on
the socket.

A daemon with nothing to do says so and is silent then. The guardian sees on a duplicate of its netlink socket
that the kernel wants something of it: then the daemon has to say a word, or stands still.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from typing import NoReturn

from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.modules import NetlinkGate
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.processes import name_process
from tcmu_runner.kernel.vigil import Vigil
from tcmu_runner.logs import Log

STALL_SECONDS = 10.0

BEAT, REST, HEAR, SERVE, DROP, LOG, BYE = "beat", "rest", "hear", "serve", "drop", "log", "bye"
RELEASED, GONE = "released", "gone"

log = logging.getLogger(__name__)


class Guardian:
    """The daemon's end. Messages are lines of words; nothing here blocks, a dead guardian is no harm."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(False)

    @classmethod
    def start(cls, paths: Paths, lock: Callable[[], DaemonLock], logs: Log) -> Guardian:
        """Forks; to be called before there is any thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        daemon = os.getpid()
        if os.fork() == 0:
            ours.close()
            _guard(theirs, daemon, paths, lock, logs)
        theirs.close()
        return cls(ours)

    def fileno(self) -> int:
        return self._socket.fileno()

    def beat(self) -> None:
        """We are awake, and beat again within STALL_SECONDS."""
        self._send(BEAT)

    def rest(self) -> None:
        """From now on we are silent, until the kernel says something or there are commands."""
        self._send(REST)

    def hear(self, descriptor: int) -> None:
        """What we read the kernel's events from, so that it sees them come while we rest."""
        self._send_along(HEAR, descriptor)

    def serving(self, hba: int, device: str) -> None:
        self._send(f"{SERVE} {hba} {device}")

    def dropped(self, hba: int, device: str) -> None:
        self._send(f"{DROP} {hba} {device}")

    def log_to(self, level: int, descriptor: int) -> None:
        """Where it, too, shall log from now on."""
        self._send_along(f"{LOG} {level}", descriptor)

    def say_goodbye(self) -> None:
        """The end is in order: there is nothing to tidy up."""
        self._send(BYE)
        self._socket.close()

    def told(self) -> str:
        """RELEASED: the guardian has ended the kernel's waits since we stood still. GONE: it has ended. Else
        nothing."""
        try:
            return self._socket.recv(64).decode() or GONE
        except BlockingIOError:
            return ""
        except OSError:  # it died before it had read everything
            return GONE

    def _send(self, text: str) -> None:
        try:
            self._socket.send(text.encode(errors="surrogateescape"))
        except OSError as error:
            log.debug("the guardian cannot be told %r: %s", text, error)

    def _send_along(self, text: str, descriptor: int) -> None:
        with suppress(OSError):
            socket.send_fds(self._socket, [text.encode()], [descriptor])


def _guard(
    end: socket.socket, daemon: int, paths: Paths, lock: Callable[[], DaemonLock], logs: Log
) -> NoReturn:
    """The guardian's life, in its own process."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the daemon does
        name_process("tcmu-guardian")
        devices = watch(end, paths, logs, lambda: lock().is_anothers(daemon))
        if devices is not None:
            _tidy_up(devices, paths, lock())
        status = 0
    except Exception:
        log.exception("the guardian failed")
    finally:
        os._exit(status)


Served = set[tuple[int, str]]


class _Told:
    """What the daemon has said of itself so far."""

    def __init__(self, vigil: Vigil, logs: Log) -> None:
        self._vigil = vigil
        self._logs = logs
        self.devices: Served = set()

    def take(self, message: str, descriptors: list[int]) -> None:
        match message.split(" "):
            case ["beat"]:
                self._vigil.beat()
            case ["rest"]:
                self._vigil.rest()
            case ["hear"]:
                self._vigil.hear(*descriptors)
            case ["serve", hba, device]:
                self.devices.add((int(hba), device))
            case ["drop", hba, device]:
                self.devices.discard((int(hba), device))
            case ["log", level]:
                self._logs.set_level(int(level))
                self._logs.follow(*descriptors)


def watch(end: socket.socket, paths: Paths, logs: Log, replaced: Callable[[], bool]) -> Served | None:
    """Listens until the daemon has ended; what it served then, None when it has said goodbye. Nothing of the
    daemon's is open here after that. replaced: whether another daemon is there already, though workers of
    this one have not ended; the kernel waits for that one then."""
    with closing(Vigil(end, STALL_SECONDS)) as vigil:
        told = _Told(vigil, logs)
        while True:
            if not vigil.wait():
                if not replaced():
                    _end_waits(end, paths)
                continue
            message, descriptors = _receive(end)
            if message in ("", BYE):
                return None if message else told.devices
            told.take(message, descriptors)


def _receive(end: socket.socket) -> tuple[str, list[int]]:
    """A message, empty at the daemon's end. All that it has said comes before."""
    while True:
        with suppress(ConnectionResetError):  # it died before it had read what we said, which is told once
            datagram, descriptors, _, _ = socket.recv_fds(end, 4096, 1)
            return datagram.decode(errors="surrogateescape"), descriptors


def _end_waits(end: socket.socket, paths: Paths) -> None:
    log.error("the daemon has stood still for %.0f s: commands waiting for it fail now", STALL_SECONDS)
    release_waits(paths)
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
