"""QMP, the protocol of QEMU's monitors (docs/interop/qmp-spec.txt): one JSON object a line. Blocking."""

from __future__ import annotations

import errno
import json
import socket

OPEN_SECONDS = 60.0  # for the daemon to open its image
SECONDS = 10.0  # for one reply


class Monitor:
    """The client's end of a monitor. Methods raise OSError: ECONNRESET at end of file, ETIMEDOUT, and EIO
    with the daemon's text for its errors."""

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
        """The command's result. Write '_' for '-' in argument names."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        while True:
            answer = self._next()
            if "error" in answer:
                raise OSError(errno.EIO, f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _next(self) -> dict[str, dict[str, str]]:
        """The next message: a reply, or an event, which may come in between."""
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError(errno.ECONNRESET, "qemu-storage-daemon has ended")
        message: dict[str, dict[str, str]] = json.loads(line)
        return message

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
