"""Addresses as people write them, as sockets have them, and as SendTargets tells them (RFC 7143, 13.8)."""

import ipaddress
import socket

import pytest

from tcmu_runner.embedded import endpoint
from tcmu_runner.errors import ConfigError

MAPPED = "::ffff:192.0.2.1"  # RFC 4291, 2.5.5.2: an IPv4 address at a socket of IPv6
LINK_LOCAL = "fe80::1%eth0"  # RFC 4007, 11: with its zone, which only this machine knows


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.1", "192.0.2.1:3260"),
        ("2001:db8::1", "[2001:db8::1]:3260"),
        (MAPPED, "192.0.2.1:3260"),
        (LINK_LOCAL, "[fe80::1%eth0]:3260"),
    ],
)
def test_host_and_port(address: str, text: str) -> None:
    assert endpoint.host_port(address, 3260) == text


@pytest.mark.parametrize(
    ("address", "text"), [(MAPPED, "192.0.2.1"), (LINK_LOCAL, "fe80::1"), ("::1", "::1")]
)
def test_what_another_machine_is_given(address: str, text: str) -> None:
    assert endpoint.without_zone(address) == text


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), (MAPPED, False), (LINK_LOCAL, False)],
)
def test_who_reaches_an_address(address: str, loopback: bool) -> None:
    assert endpoint.parse(address).is_loopback is loopback


def test_a_link_local_address_keeps_its_zone() -> None:
    """It can be listened on only with the number of its interface."""
    index, name = socket.if_nameindex()[0]
    family, address = endpoint.resolve(f"fe80::1%{name}", 3260)
    assert (family, address[1:]) == (socket.AF_INET6, (3260, 0, index))


def test_link_local_without_a_zone() -> None:
    with pytest.raises(ConfigError, match="fe80::1%eth0"):
        endpoint.resolve("fe80::1", 3260)


@pytest.mark.parametrize("host", ["fe80::1%nosuchzone", "no such host"])
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        endpoint.resolve(host, 3260)


def test_every_address_of_this_machine() -> None:
    assert endpoint.parse("::ffff:0.0.0.0") == ipaddress.ip_address("0.0.0.0")
