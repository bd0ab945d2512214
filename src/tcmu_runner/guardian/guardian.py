"""The daemon's end of the line to its guardian process (see guardian.process)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from tcmu_runner.guardian.process import BEAT, BYE, DROP, GONE, HEAR, LOG, REST, SERVE, Ends, guard
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Log

log = logging.getLogger(__name__)


class Guardian:
    """The daemon's end. Messages are lines of words; nothing here blocks, a dead guardian is no harm."""

    def __init__(self, end: socket.socket, life: int) -> None:
        """life: the write end of a pipe. It stays open in all processes that the daemon forks, until they
        end."""
        self._socket = end
        self._socket.setblocking(False)
        self._life = life

    @classmethod
    def start(cls, paths: Paths, lock: Callable[[], DaemonLock], logs: Log) -> Guardian:
        """Forks; to be called before there is any thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end_of_all, life = os.pipe2(os.O_CLOEXEC)
        daemon = os.getpid()
        if os.fork() == 0:
            ours.close()
            os.close(life)
            guard(Ends(theirs, end_of_all), daemon, paths, lock, logs)
        theirs.close()
        os.close(end_of_all)
        return cls(ours, life)

    def fall_silent(self) -> None:
        """In a process that the supervisor has forked: it cannot say anything here from now on. The guardian
        waits for its end, though, before it lets others touch the rings."""
        self._socket.close()

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
        self.close()

    def close(self) -> None:
        """Without a word, as by a death."""
        self._socket.close()
        life, self._life = self._life, -1
        if life >= 0:
            os.close(life)

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
