"""A second, tiny process that keeps administrators' commands from hanging when the daemon cannot answer.

The kernel lets `enable` and `rmdir` of a device wait for the daemon without end, and keeps doing so when the
daemon is dead. The guardian holds the other end of a socket: when the daemon dies it blocks the daemon's
devices (initiators retry), resets their rings (nothing waits for the dead), ends every wait and tells the
kernel to wait no more. Workers hold the daemon's end, too, so it does that only when all of them are dead
and nothing can write to a ring any more. When the daemon only stands still, it ends the waits and says so on
the socket.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from tcmu_runner.kernel.configfs import Backstore, ResetStatus
from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.modules import NetlinkGate
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.processes import name_process
from tcmu_runner.logs import Log

BEAT_SECONDS = 1.0
IDLE_BEAT_SECONDS = 4.0  # while nothing happens on any ring
STALL_SECONDS = 10.0

BEAT, SERVE, DROP, LOG, BYE, RELEASED, GONE = "beat", "serve", "drop", "log", "bye", "released", "gone"

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
        if os.fork() == 0:
            ours.close()
            _guard(theirs, paths, lock, logs)
        theirs.close()
        return cls(ours)

    def fileno(self) -> int:
        return self._socket.fileno()

    def beat(self) -> None:
        self._send(BEAT)

    def serving(self, hba: int, device: str) -> None:
        self._send(f"{SERVE} {hba} {device}")

    def dropped(self, hba: int, device: str) -> None:
        self._send(f"{DROP} {hba} {device}")

    def log_to(self, level: int, descriptor: int) -> None:
        """Where it, too, shall log from now on."""
        with suppress(OSError):
            socket.send_fds(self._socket, [f"{LOG} {level}".encode()], [descriptor])

    def say_goodbye(self) -> None:
        """The end is in order: there is nothing to tidy up."""
        self._send(BYE)
        self._socket.close()

    def hear(self) -> str:
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


def _guard(end: socket.socket, paths: Paths, lock: Callable[[], DaemonLock], logs: Log) -> NoReturn:
    """The guardian's life, in its own process."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the daemon does
        name_process("tcmu-guardian")
        devices = _watch(end, paths, logs)
        if devices is not None:
            _tidy_up(devices, paths, lock())
        status = 0
    except Exception:
        log.exception("the guardian failed")
    finally:
        os._exit(status)


Served = set[tuple[int, str]]


def _watch(end: socket.socket, paths: Paths, logs: Log) -> Served | None:
    """Listens until the daemon has ended; what it served then, None when it has said goodbye."""
    devices: Served = set()
    stalled = False
    while True:
        readable, _, _ = select.select([end], [], [], STALL_SECONDS)
        if not readable:
            if not stalled:
                stalled = True
                log.error(
                    "the daemon has stood still for %.0f s: commands waiting for it fail now", STALL_SECONDS
                )
                release_waits(paths)
                end.send(RELEASED.encode())
            continue
        stalled = False
        datagram, descriptors, _, _ = socket.recv_fds(end, 4096, 1)
        word, *arguments = datagram.decode(errors="surrogateescape").split(" ")
        match word, arguments:
            case "serve", [hba, device]:
                devices.add((int(hba), device))
            case "drop", [hba, device]:
                devices.discard((int(hba), device))
            case "log", [level]:
                logs.set_level(int(level))
                logs.follow(*descriptors)
            case "bye", _:
                return None
            case "", _:
                return devices


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
