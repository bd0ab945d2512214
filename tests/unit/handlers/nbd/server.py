"""A small NBD server that also does what no server should: the other side for the tests of our client."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from tcmu_runner.handlers.nbd.wire import ExportFlag

# Expected bytes are written as proto.md has them, not with our own constants.
HELLO = b"NBDMAGIC" + b"IHAVEOPT" + b"\0\3"
EVERYTHING = (
    ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA | ExportFlag.SEND_TRIM | ExportFlag.SEND_WRITE_ZEROES
    | ExportFlag.CAN_MULTI_CONN | 1
)  # fmt: skip
Reply = Callable[["Server", socket.socket, int, bytes, int], bool]


class Server:
    """Simple replies only. flags, minimum, maximum: of its export. saboteur: gets each request first, as
    (server, connection, type, cookie, offset); True: that was the answer. log: types of requests, in their
    order."""

    def __init__(
        self, path: Path, size: int = 1 << 20, *, flags: int = EVERYTHING, minimum: int = 1,
        maximum: int = 1 << 16,
    ) -> None:  # fmt: skip
        self.path, self.size, self.flags, self.minimum = path, size, flags, minimum
        self.maximum = maximum
        self.disk = bytearray(size)
        self.log: list[int] = []
        self.saboteur: Reply | None = None
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept)

    def _spawn(self, function: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        """Refuses and cuts off."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_off()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def cut_off(self) -> None:
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._connections.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._negotiate(connection)
                while self._request(connection):
                    pass
            except (OSError, EOFError):
                return

    def _negotiate(self, connection: socket.socket) -> None:
        connection.sendall(HELLO)
        assert take(connection, 4) == b"\0\0\0\3"
        while True:
            magic, option, length = struct.unpack(">8sII", take(connection, 16))
            assert magic == b"IHAVEOPT"
            take(connection, length)
            if option != 7:  # NBD_OPT_GO
                self._option(connection, option, 0x80000001)
                continue
            self._option(connection, option, 3, struct.pack(">HQH", 0, self.size, self.flags))
            self._option(connection, option, 3, struct.pack(">HIII", 3, self.minimum, 4096, self.maximum))
            return self._option(connection, option, 1)

    @staticmethod
    def _option(connection: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
        head = bytes.fromhex("0003e889045565a9") + struct.pack(">III", option, kind, len(data))
        connection.sendall(head + data)

    def _request(self, connection: socket.socket) -> bool:
        magic, _, kind, cookie, offset, length = struct.unpack(">4sHH8sQI", take(connection, 28))
        assert magic == bytes.fromhex("25609513")
        data = take(connection, length) if kind == 1 else b""
        self.log.append(kind)
        if kind == 2:
            return False
        if self.saboteur is not None and self.saboteur(self, connection, kind, cookie, offset):
            return True
        error = 0 if offset + length <= self.size else errno.EINVAL
        if not error and kind in (1, 4, 6):
            self.disk[offset : offset + length] = data or bytes(length)
        answer(connection, cookie, error, self.disk[offset : offset + length] if kind == 0 else b"")
        return True


def answer(connection: socket.socket, cookie: bytes, error: int = 0, data: bytes | bytearray = b"") -> None:
    head = bytes.fromhex("67446698") + struct.pack(">I", error) + cookie
    connection.sendall(head if error else head + data)


def take(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
