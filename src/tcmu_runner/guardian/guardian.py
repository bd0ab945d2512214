"""The supervisor's end of the socket to its guardian process (see guardian.process)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from tcmu_runner.guardian.process import BEAT, BYE, DROP, GONE, LOG, SERVE, Ends, guard
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Logs

log = logging.getLogger(__name__)


class Guardian:
    """Messages are words in a datagram. No method blocks or raises; without a guardian they do nothing."""

    def __init__(self, end: socket.socket, life: int) -> None:
        """life: the write end of a pipe, which the processes that the daemon forks inherit: the guardian
        reads end of file once all of them have ended."""
        self._socket = end
        self._socket.setblocking(False)
        self._life = life

    @classmethod
    def start(cls, paths: Paths, lock: Callable[[], DaemonLock], logs: Logs) -> Guardian:
        """Forks the guardian. Call before there is any thread."""
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
        """Call in a process that the supervisor has forked: closes the socket but keeps the pipe, so that the
        guardian waits for this process's end before another daemon may touch the rings."""
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def beat(self) -> None:
        """The event loop runs, and beats again within STALL_SECONDS."""
        self._send(BEAT)

    def serving(self, hba: int, device: str) -> None:
        self._send(f"{SERVE} {hba} {device}")

    def dropped(self, hba: int, device: str) -> None:
        self._send(f"{DROP} {hba} {device}")

    def log_to(self, level: int, descriptor: int) -> None:
        """Sets level and file for the guardian's log."""
        with suppress(OSError):
            socket.send_fds(self._socket, [f"{LOG} {level}".encode()], [descriptor])

    def say_goodbye(self) -> None:
        """The supervisor ends in order: the guardian need not block devices."""
        self._send(BYE)
        self.close()

    def close(self) -> None:
        """Closes without a goodbye: to the guardian that is the supervisor's death."""
        self._socket.close()
        life, self._life = self._life, -1
        if life >= 0:
            os.close(life)

    def told(self) -> str:
        """Call when `fileno` is readable. RELEASED: we stalled, and the guardian has ended the kernel's
        waits. GONE: the guardian has ended. Empty: nothing to read."""
        try:
            return self._socket.recv(64).decode() or GONE
        except BlockingIOError:
            return ""
        except OSError:  # ECONNRESET: it died before it had read all that we sent
            return GONE

    def _send(self, text: str) -> None:
        try:
            self._socket.send(text.encode(errors="surrogateescape"))
        except OSError as error:
            log.debug("no guardian for %r: %s", text, error)
