"""Serving as a whole: addresses, credentials, opening and stopping."""

from __future__ import annotations

import ipaddress
import threading

import pytest

from tcmu_runner.embedded import Credentials, Disk, Server, serve
from tcmu_runner.embedded.initiator import Initiator, LoginRefusedError
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iscsi.pdu import NO_TAG
from tcmu_runner.iscsi.requests import Text
from tcmu_runner.iscsi.responses import AsyncMessage
from tcmu_runner.scsi.profile import Identity
from tcmu_runner.scsi.vpd import naa

SECRET = Credentials({"alice": "a secret of length"})


def test_url() -> None:
    with serve(Disk("ram/", 1 << 20), portals=2) as server:
        first, second = (at.port for at in server.portals)
        assert server.url() == f"iscsi://127.0.0.1:{first}/{server.target.name}/0"
        assert server.url(3, portal=1) == f"iscsi://127.0.0.1:{second}/{server.target.name}/3"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_addresses_that_strangers_reach_need_credentials(host: str) -> None:
    with pytest.raises(ConfigError, match="demand credentials"):
        Server([], Registry(), host=host)
    server = Server([], Registry(), host=host, credentials=SECRET)
    server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_needs_none(host: str) -> None:
    Server([], Registry(), host=host).stop()


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        (Credentials({}), "nobody could log in"),
        (Credentials({"alice": "short"}), "shorter than 12"),
        (Credentials({"alice": "a" * 12}, "disk", "short"), "shorter than 12"),
        (Credentials({"alice": "a" * 12}, "disk", "a" * 12), "each needs its own"),
    ],
)
def test_secrets_that_protect_nothing(credentials: Credentials, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Server([], Registry(), credentials=credentials)


def test_chap(caplog: pytest.LogCaptureFixture) -> None:
    with serve(Disk("ram/", 1 << 20), credentials=SECRET) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(server.target.name, "alice", "a secret of length")
            assert initiator.command(bytes(6)).status == 0
        for user, secret in (("alice", "another secret"), ("", "")):
            with Initiator(at.host, at.port) as initiator, pytest.raises(LoginRefusedError) as refused:
                initiator.login(server.target.name, user, secret)
            assert refused.value.status == 0x0201
    assert [
        record.message.partition(": ")[2] for record in caplog.records if record.levelname == "WARNING"
    ] == [
        "login refused: wrong name or secret for 'alice'",
        "login refused: no authentication, wanted is CHAP",
    ]
    caplog.clear()


def test_an_ipv4_initiator_at_a_socket_of_both() -> None:
    """`::` takes IPv4, too, and has its addresses as ::ffff:a.b.c.d, by which open-iscsi finds no target."""
    with serve_on("::") as server:
        at = server.portals[0]
        with Initiator("127.0.0.1", at.port) as initiator:
            initiator.login(None, "alice", "a secret of length")
            initiator.send(
                Text(0x44, 0x80, 0, bytes(8), 1, NO_TAG, initiator.cmd_sn, 0), b"SendTargets=All\0"
            )
            _, answer = initiator.receive_frame()
        assert f"TargetAddress=127.0.0.1:{at.port},1".encode() in answer.split(b"\0")


def serve_on(host: str) -> Server:
    return Server([], Registry(), host=host, credentials=SECRET)


def test_link_local_addresses() -> None:
    """Listened on with their zone, told without: it means nothing on another machine."""
    with open("/proc/net/if_inet6") as table:
        found = [line.split() for line in table if line.startswith("fe80")]
    for digits, *_, name in found:  # none in a container without IPv6
        address = str(ipaddress.ip_address(int(digits, 16)))
        with serve_on(f"{address}%{name}") as server:
            at = server.portals[0]
            assert at.address == f"[{address}%{name}]:{at.port}"
            assert at.seen_from("") == f"[{address}]:{at.port},1"
            with Initiator(f"{address}%{name}", at.port) as initiator:
                initiator.login(None, "alice", "a secret of length")


def test_a_port_that_is_taken() -> None:
    with (
        serve(Disk("ram/", 1 << 20)) as server,
        pytest.raises(OSError, match="cannot listen on"),
    ):
        Server([], Registry(), ports=[server.portals[0].port])


def test_a_disk_that_cannot_be_opened_leaves_nothing_behind() -> None:
    before = threading.active_count()
    with pytest.raises(TcmuError):
        serve(Disk("ram/", 1 << 20), Disk("ram/with configuration", 1 << 20))
    with pytest.raises(ConfigError, match="physical blocks"):
        serve(Disk("ram/", 1 << 20, 4096, physical_block_size=512))
    assert threading.active_count() == before


def test_stopping_ends_connections() -> None:
    server = serve(Disk("ram/", 1 << 20))
    with server:
        at = server.portals[0]
        initiator = Initiator(at.host, at.port)
        initiator.login(server.target.name)
        assert initiator.command(bytes(6)).status == 0
        assert (server.sessions, server.commands) == (1, 1)
    message, _ = initiator.receive_frame()
    assert isinstance(message, AsyncMessage)
    assert (message.opcode, message.event) == (0x32, 3)  # 11.9.1: the session is dropped
    with pytest.raises(EOFError):
        initiator.receive_frame()
    initiator.close()


def test_a_read_only_disk() -> None:
    with serve(Disk("ram/", 1 << 20, read_only=True)) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(server.target.name)
            refused = initiator.command(bytes.fromhex("2a000000000000000100"), bytes(512))
            assert (refused.status, refused.sense[2], refused.sense[12]) == (0x02, 0x07, 0x27)


def identity(server: Server) -> Identity:
    return server.luns[0].lun.unit.identify()


def test_two_servers_disks_are_not_one_to_initiators() -> None:
    """SPC-5 7.7.6.6.5: an NAA identifier is unique in the world; multipath joins disks that share one."""
    with serve(Disk("ram/", 1 << 20)) as one, serve(Disk("ram/", 1 << 21)) as other:
        assert naa(identity(one)) != naa(identity(other))


def test_a_serial_that_was_given() -> None:
    with serve(Disk("ram/", 1 << 20, serial="vol-7")) as server:
        assert identity(server).serial == "vol-7"
