"""Initiators that fall silent: NOP-In of RFC 7143, 11.19, with LIO's times, and the end of their sessions."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tcmu_runner.embedded import Disk, Server
from tcmu_runner.embedded.connection import Connection
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.embedded.keepalive import Silence, Verdict, limit_silence
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iscsi.pdu import NO_TAG
from tcmu_runner.iscsi.requests import NopOut
from tcmu_runner.iscsi.responses import NopIn

TEST_UNIT_READY, RESERVE_6 = bytes(6), bytes.fromhex("160000000000")
GOOD, RESERVATION_CONFLICT = 0x00, 0x18
NOTHING, PING, GIVE_UP = Verdict


def registry() -> Registry:
    found = Registry()
    found.load_entry_points()
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    """Which looks at its connections only when a test has it do so."""
    with Server([Disk("ram/", 1 << 20)], registry(), look_seconds=3600) as found:
        yield found


def connect(server: Server, isid: int = 1) -> Initiator:
    at = server.portals[0]
    initiator = Initiator(at.host, at.port, isid=isid.to_bytes(6, "big"))
    initiator.login(server.target.name)
    return initiator


def look(server: Server, initiator: Initiator, times: int) -> None:
    (machine,) = server.target.sessions[initiator.tsih].connections.values()
    connection = server.target.streams[machine]
    assert isinstance(connection, Connection)
    for _ in range(times):
        server.on_loop(connection.look)


def test_a_ping_after_15_seconds_and_the_end_after_45() -> None:
    silence = Silence()
    assert [silence.look(alive=False) for _ in range(9)] == [
        NOTHING, NOTHING, PING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, GIVE_UP,
    ]  # fmt: skip


def test_a_sign_of_life_counts_anew() -> None:
    silence = Silence()
    for _ in range(8):
        silence.look(alive=False)
    assert [silence.look(alive=True), *(silence.look(alive=False) for _ in range(3))] == [
        NOTHING, NOTHING, NOTHING, PING,
    ]  # fmt: skip


def test_an_initiator_that_answers_keeps_its_session(server: Server) -> None:
    with connect(server) as initiator:
        look(server, initiator, 4)  # the first one still sees the login
        ping, data = initiator.receive_frame()
        assert isinstance(ping, NopIn)
        assert (ping.flags, ping.tag, data) == (0x80, NO_TAG, b"")
        assert ping.transfer_tag != NO_TAG
        answer = NopOut(0x40, 0x80, 0, ping.lun, NO_TAG, ping.transfer_tag, initiator.cmd_sn, ping.stat_sn)
        initiator.send(answer)
        assert initiator.command(TEST_UNIT_READY).status == GOOD  # the answer is here, too: they keep order
        look(server, initiator, 9)
        assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_a_ping_uses_up_no_status_number(server: Server) -> None:
    """11.19.1: StatSN is not advanced by a NOP-In that is no answer."""
    with connect(server) as initiator:
        before = initiator.exp_stat_sn
        look(server, initiator, 4)
        ping, _ = initiator.receive_frame()
        assert isinstance(ping, NopIn)
        assert ping.stat_sn == before
        assert initiator.command(TEST_UNIT_READY).status == GOOD
        assert initiator.exp_stat_sn == before + 1


def test_a_dead_initiator_loses_its_reservation(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with connect(server) as dead, connect(server, isid=2) as other:
        assert dead.command(RESERVE_6).status == GOOD
        assert other.command(TEST_UNIT_READY).status == RESERVATION_CONFLICT
        look(server, dead, 10)
        assert other.command(TEST_UNIT_READY).status == GOOD
    (record,) = caplog.records
    assert "no answer to a ping: session 1 of" in record.message
    caplog.clear()


def test_the_loop_looks_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    server = Server([Disk("ram/", 1 << 20)], registry(), look_seconds=0.01)
    with server, connect(server) as silent:
        assert isinstance(silent.receive_frame()[0], NopIn)
        with pytest.raises((EOFError, ConnectionResetError)):
            silent.receive_frame()
    caplog.clear()


def test_our_initiator_answers_pings(server: Server) -> None:
    with connect(server) as initiator:
        look(server, initiator, 4)
        assert initiator.command(TEST_UNIT_READY).status == GOOD
        look(server, initiator, 9)
        assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_the_kernel_watches_connections_without_a_session() -> None:
    with socket.socket() as connected:
        limit_silence(connected)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [connected.getsockopt(socket.IPPROTO_TCP, each) for each in options] == [15, 10, 3, 45000]
