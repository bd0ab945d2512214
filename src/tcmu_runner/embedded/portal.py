"""A portal: an address that initiators connect to, one target port."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from tcmu_runner.embedded import endpoint
from tcmu_runner.embedded.connection import Connection
from tcmu_runner.embedded.session import Session
from tcmu_runner.errors import ConfigError
from tcmu_runner.iscsi.login import LoginError, LoginPhase, Policy, Status
from tcmu_runner.iscsi.requests import Login

if TYPE_CHECKING:
    from tcmu_runner.embedded.server import Server

CONNECTIONS_MAX = 512
DISCOVERY_HANDLE = 0xFFFF


class Portal:
    """Listens from its making on, so that `port` is known; connections are taken once it is `open`.

    group: the portal group tag, and the relative target port identifier. Raises ConfigError for an address
    that strangers may reach without a secret, OSError for one that cannot be listened on.
    """

    def __init__(self, server: Server, host: str, port: int, group: int, policy: Policy) -> None:
        self.server = server
        self.group = group
        self.policy = policy
        self.connections: set[Connection] = set()
        family, address = endpoint.resolve(host, port)
        if not endpoint.parse(endpoint.host_of(address)).is_loopback and policy.credentials is None:
            raise ConfigError(
                f"{host} is reached from other machines: demand credentials (CHAP), or listen on 127.0.0.1"
            )
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(128)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
        bound = self._socket.getsockname()
        self.host, self.port = endpoint.host_of(bound), bound[1]
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT; of all addresses of this machine the one by which we reach it."""
        host = self.host
        if self._is_wildcard:
            host = "127.0.0.1" if endpoint.parse(host).version == 4 else "::1"
        return endpoint.host_port(host, self.port)

    @property
    def _is_wildcard(self) -> bool:
        return endpoint.parse(self.host).is_unspecified

    def seen_from(self, local: str) -> str:
        """As TargetAddress has it (RFC 7143, 13.8), for an initiator that reached our address `local`."""
        host = endpoint.without_zone(local if self._is_wildcard else self.host)
        return f"{endpoint.host_port(host, self.port)},{self.group}"

    def url(self, lun: int = 0) -> str:
        """For libiscsi and QEMU; without user and secret."""
        return f"iscsi://{self.address}/{self.server.target.name}/{lun}"

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connected, sock=self._socket)

    def _connected(self) -> asyncio.BaseProtocol:
        return Connection(self) if len(self.connections) < CONNECTIONS_MAX else Refusal()

    def admit(self, phase: LoginPhase, pdu: Login) -> Session:
        """The session of a completed login. Raises LoginError."""
        if not phase.discovery:
            return self.server.target.admit(phase, pdu, self.group)
        if pdu.tsih:
            raise LoginError(Status.NO_SUCH_SESSION, "a discovery session has one connection")
        session = Session(
            phase.initiator, pdu.isid, DISCOVERY_HANDLE, None, phase.parameters, portal_group=self.group
        )
        session.begin(pdu.cmd_sn)
        return session

    def close(self) -> None:
        """Takes no more connections, and ends those there are."""
        if self._listener is not None:
            self._listener.close()
        self._socket.close()
        for connection in [*self.connections]:
            connection.drop()


class Refusal(asyncio.Protocol):
    """There are too many connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
