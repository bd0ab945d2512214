"""Makes a connection: socket, negotiation, TLS. Blocks, up to a time limit: call it on a thread of its
own."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.handlers.nbd.negotiation import Tls, negotiate
from tcmu_runner.handlers.nbd.wire import NbdError, NbdExport

SECONDS = 10.0  # for each step
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
SILENT_MILLISECONDS = 30_000  # TCP_USER_TIMEOUT: unacknowledged for so long, the connection is lost
BUFFER = 1 << 20  # bytes of a socket's buffer

CA, CERTIFICATE, KEY = "ca-cert.pem", "client-cert.pem", "client-key.pem"  # as QEMU and nbdkit name them


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address. host, port: TCP; without a host `path`, a unix socket."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host} port {self.port}"


@dataclass(frozen=True, slots=True)
class Place:
    """An export's place. tls: a directory of certificates; None: no TLS. hostname: the name in the server's
    certificate; by default the host."""

    address: Address
    export: str = ""
    tls: str | None = None
    hostname: str | None = None

    def __str__(self) -> str:
        return f"export {self.export!r} at {self.address}" if self.export else str(self.address)


def dial(place: Place) -> tuple[socket.socket, NbdExport]:
    """A connection in its transmission phase. Raises OSError; its text names place and way out."""
    connected = _connect(place.address)
    try:
        return _negotiate(connected, place)
    except NbdError as error:
        connected.close()
        raise OSError(errno.ECONNABORTED, f"{place}: {error}") from None
    except OSError as error:
        connected.close()
        raise OSError(errno.ECONNABORTED, f"{place}: the negotiation failed: {error}") from None
    except BaseException:
        connected.close()
        raise


def _connect(address: Address) -> socket.socket:
    try:
        if address.path:
            connected = socket.socket(socket.AF_UNIX)
            try:
                connected.settimeout(SECONDS)
                connected.connect(address.path)
            except BaseException:
                connected.close()
                raise
        else:
            connected = socket.create_connection((address.host, address.port), SECONDS)
            _tune(connected)
    except OSError as error:
        text = error.strerror or str(error)
        raise OSError(
            error.errno or errno.ECONNREFUSED,
            f"{address}: {text}: start the NBD server, or correct the address",
        ) from None
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return connected


def _tune(connected: socket.socket) -> None:
    """Sends requests without delay, and detects a host that has vanished."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connected.setsockopt(socket.IPPROTO_TCP, option, value)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MILLISECONDS)


def _negotiate(connected: socket.socket, place: Place) -> tuple[socket.socket, NbdExport]:
    steps = negotiate(place.export, tls=place.tls is not None)
    step = next(steps)
    try:
        while True:
            if isinstance(step, int):
                step = steps.send(_receive(connected, step))
            elif isinstance(step, bytes):
                connected.sendall(step)
                step = next(steps)
            elif step is Tls.START:
                connected = _encrypt(connected, place)
                step = next(steps)
    except StopIteration as end:
        export: NbdExport = end.value
        return connected, export
    except BaseException:
        connected.close()  # the SSLSocket; it has detached the plain one
        raise


def _receive(connected: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connected.recv(count - len(data))
        if not piece:
            raise NbdError("the server has closed the connection: its log tells why")
        data += piece
    return bytes(data)


def _encrypt(connected: socket.socket, place: Place) -> socket.socket:
    import ssl  # here: it costs a worker 5 MB, and few exports need it  # noqa: PLC0415

    assert place.tls is not None
    directory = Path(place.tls)
    context = ssl.create_default_context(cafile=str(directory / CA))
    if (directory / CERTIFICATE).exists():
        context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
    name = place.hostname or place.address.host
    context.check_hostname = bool(name)
    return context.wrap_socket(connected, server_hostname=name or None)
