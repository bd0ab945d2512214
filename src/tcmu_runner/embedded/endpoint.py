"""Addresses of portals: as people write them, as sockets have them, and as initiators are given them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import cast

from tcmu_runner.errors import ConfigError

SocketAddress = tuple[str | int, ...]


def parse(host: str) -> IPv4Address | IPv6Address:
    """A numeric address. ::ffff:a.b.c.d, as a socket of IPv6 shows one of IPv4, is that of IPv4: open-iscsi
    takes the two for different portals, and does not find what it asked for."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def host_of(address: SocketAddress) -> str:
    """The numeric address of a socket's name, with the zone of one that is link-local."""
    host, zone = str(address[0]), address[3] if len(address) > 3 else 0
    return f"{host}%{socket.if_indextoname(int(zone))}" if zone else host


def host_port(host: str, port: int) -> str:
    """HOST:PORT of a numeric address, brackets around one of IPv6."""
    address = parse(host)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def without_zone(host: str) -> str:
    """The address as another machine may be given it: a zone (fe80::1%eth0) means something here only."""
    return str(parse(host)).partition("%")[0]


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, SocketAddress]:
    """What to bind a socket to. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"{host!r} is no address: {error.strerror}") from error
    family, address = found[0][0], cast("SocketAddress", found[0][4])
    if parse(host_of(address)).is_link_local and family == socket.AF_INET6 and not address[3]:
        raise ConfigError(f"{host} is link-local: name its interface, too, as in {host}%eth0")
    return family, address


@dataclass
class PortalAddress:
    """Where a portal listens. group: its portal group tag, and the relative target port identifier."""

    host: str
    port: int
    group: int

    @property
    def address(self) -> str:
        """HOST:PORT; of all addresses of this machine the one by which we reach it."""
        host = self.host
        if self._is_wildcard:
            host = "127.0.0.1" if parse(host).version == 4 else "::1"
        return host_port(host, self.port)

    @property
    def _is_wildcard(self) -> bool:
        return parse(self.host).is_unspecified

    def seen_from(self, local: str) -> str:
        """As TargetAddress has it (RFC 7143, 13.8), for an initiator that reached our address `local`."""
        host = without_zone(local if self._is_wildcard else self.host)
        return f"{host_port(host, self.port)},{self.group}"
