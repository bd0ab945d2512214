"""A portal: an address that initiators connect to, one target port."""

from __future__ import annotations

import asyncio
import socket

from tcmu_runner.embedded import endpoint
from tcmu_runner.embedded.connection import Connection
from tcmu_runner.embedded.target import Target
from tcmu_runner.errors import ConfigError
from tcmu_runner.iscsi.login import Policy

CONNECTIONS_MAX = 512


class Portal(endpoint.PortalAddress):
    """Listens from its making on, so that `port` is known; connections are taken once it is `open`.

    Raises ConfigError for an address that strangers may reach without a secret, OSError for one that cannot
    be listened on.
    """

    def __init__(self, target: Target, host: str, port: int, policy: Policy, look_seconds: float) -> None:
        """look_seconds: from one look at whether an initiator is still there to the next."""
        self._target = target
        self._policy = policy
        self._look_seconds = look_seconds
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
        super().__init__(endpoint.host_of(bound), bound[1], policy.portal_group)
        self._listener: asyncio.Server | None = None

    def url(self, lun: int = 0) -> str:
        """For libiscsi and QEMU; without user and secret."""
        return f"iscsi://{self.address}/{self._target.name}/{lun}"

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accepted, sock=self._socket)

    def _accepted(self) -> asyncio.BaseProtocol:
        return self.connection() if len(self.connections) < CONNECTIONS_MAX else Refusal()

    def connection(self) -> Connection:
        """The protocol of a connection that an initiator has opened."""
        return Connection(self._target, self._policy, self.connections, self._look_seconds)

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
