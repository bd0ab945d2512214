"""QMP, the language of QEMU's monitors (docs/interop/qmp-spec.txt): JSON objects, one a line. Blocking."""

from __future__ import annotations

import errno
import json
import socket

OPEN_SECONDS = 60.0  # for an image to be opened
SECONDS = 10.0  # for one answer


class Monitor:
    """The other end of a daemon's monitor. Methods raise OSError: EOFs and time-outs have ECONNRESET and
    ETIMEDOUT, errors of the daemon EIO with its text."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(OPEN_SECONDS)
        self._lines = connected.makefile("r")

    def greet(self) -> None:
        """Waits until the daemon has opened everything that its command line names."""
        self._next()
        self._socket.settimeout(SECONDS)
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> object:
        """What the daemon returns. Names are written with '_' for '-'."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        while True:
            answer = self._next()
            if "error" in answer:
                raise OSError(errno.EIO, f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _next(self) -> dict[str, dict[str, str]]:
        """Any message; also events, which come in between."""
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError(errno.ECONNRESET, "qemu-storage-daemon has ended")
        message: dict[str, dict[str, str]] = json.loads(line)
        return message

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
