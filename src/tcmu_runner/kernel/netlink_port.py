"""Netlink sockets, and requests over them that the kernel answers."""

import errno
import itertools
import os
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from tcmu_runner.kernel import genl
from tcmu_runner.kernel.genl import Message, NetlinkError

# Python 3.11's socket module lacks these names.
_NETLINK_GENERIC = 16
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33

_RECEIVE_BUFFER = 8 << 20  # bytes; other daemons lost events with the default of 208 KiB
_DATAGRAM = 1 << 16

_REMEDIES = {
    errno.ENOENT: "the kernel module target_core_user is not loaded: modprobe target_core_user",
    errno.EPERM: "run as root with CAP_NET_ADMIN, outside of a user namespace",
}


class NetlinkRefused(NetlinkError):  # noqa: N818 - says what happened
    """The kernel answered a request with an error; `errno` is the kernel's."""

    def __init__(self, what: str, code: int) -> None:
        remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
        super().__init__(f"{what}: {os.strerror(code)}{remedy}")
        self.errno = code


class Port(Protocol):
    """The part of a netlink socket that we use. `receive` returns a datagram and its sender's port id."""

    def join(self, group: int) -> None: ...
    def send(self, datagram: bytes) -> None: ...
    def receive(self) -> tuple[bytes, int]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class KernelPort:
    """A generic netlink socket. timeout: of receive, in seconds; 0 makes the socket non-blocking."""

    def __init__(self, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(timeout)
        except BaseException:
            self._socket.close()
            raise

    def join(self, group: int) -> None:
        """Subscribes to the multicast group, with a large receive buffer."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # without CAP_NET_ADMIN: as much as net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, (0, 0))

    def receive(self) -> tuple[bytes, int]:
        datagram, (port_id, _groups) = self._socket.recvfrom(_DATAGRAM)
        return datagram, port_id

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


class Requests:
    """Requests to the kernel, one at a time, on any thread.

    The kernel handles a request inside `send`, so its acknowledgement can be read when `send` returns.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._sequence = itertools.count(1)
        self._lock = threading.Lock()

    def ask(self, what: str, encode: Callable[[int], bytes]) -> list[Message]:
        """Sends `encode(sequence number)`; returns the kernel's messages before its acknowledgement.

        `what` names the request in errors: NetlinkRefused with the kernel's errno, else NetlinkError.
        """
        with self._lock:
            seq = next(self._sequence)
            try:
                self._port.send(encode(seq))
                return self._answers(what, seq)
            except OSError as error:
                raise NetlinkError(f"{what}: {error.strerror or 'no answer from the kernel'}") from error

    def close(self) -> None:
        self._port.close()

    def _answers(self, what: str, seq: int) -> list[Message]:
        answers: list[Message] = []
        while True:
            datagram, sender = self._port.receive()
            for message in genl.split(datagram) if sender == 0 else ():
                if message.seq != seq:  # the late answer to a request that timed out
                    continue
                code = genl.decode_error(message)
                if code is None:
                    answers.append(message)
                elif code == 0:
                    return answers
                else:
                    raise NetlinkRefused(what, code)
