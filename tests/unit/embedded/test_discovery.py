"""SendTargets (RFC 7143, appendix C) and text requests in full feature phase (11.10)."""

from __future__ import annotations

import pytest

from tcmu_runner.embedded import Server
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.pdu import NO_TAG
from tcmu_runner.iscsi.requests import ScsiCommand, Text
from tcmu_runner.iscsi.responses import Reject, TextResponse

from .conftest import Connect


def ask(initiator: Initiator, pairs: dict[str, str]) -> list[tuple[str, str]]:
    """A text request and its answer, which may come in pieces."""
    data, tag, transfer_tag, answer = text.render(pairs.items()), initiator.next_tag(), 0xFFFFFFFF, b""
    while True:
        initiator.send(Text(0x44, 0x80, 0, bytes(8), tag, transfer_tag, initiator.cmd_sn, 0), data)
        pdu, piece = initiator.receive_frame()
        assert isinstance(pdu, TextResponse)
        answer += piece
        if pdu.flags & 0x80:
            assert pdu.transfer_tag == 0xFFFFFFFF
            items = [item.partition("=") for item in answer.decode().split("\0") if item]
            return [(key, value) for key, _, value in items]
        data, transfer_tag = b"", pdu.transfer_tag


@pytest.fixture
def discovery(connect: Connect) -> Initiator:
    initiator = connect(login=False)
    initiator.login(None)
    return initiator


def test_send_targets(discovery: Initiator, server: Server) -> None:
    """Every portal with its group."""
    addresses = [("TargetAddress", f"127.0.0.1:{at.port},{at.group}") for at in server.portals]
    for wanted in ("All", server.target.name):
        assert ask(discovery, {"SendTargets": wanted}) == [("TargetName", server.target.name), *addresses]
    assert ask(discovery, {"SendTargets": "iqn.a:other"}) == []


def test_send_targets_in_pieces(connect: Connect, server: Server) -> None:
    initiator = connect(login=False)
    initiator.login(None, MaxRecvDataSegmentLength="512")
    pairs = {"SendTargets": "All", **{f"X-org.example.{number}": "?" for number in range(60)}}
    answer = ask(initiator, pairs)
    assert answer[0] == ("TargetName", server.target.name)
    assert answer[-60:] == [(f"X-org.example.{number}", "NotUnderstood") for number in range(60)]


def test_nothing_else_in_a_discovery_session(discovery: Initiator) -> None:
    """4.3"""
    discovery.send(ScsiCommand(0x01, 0x81, 0, bytes(8), 1, 0, discovery.next_cmd_sn(), 0, bytes(16)))
    pdu, _ = discovery.receive_frame()
    assert isinstance(pdu, Reject)
    assert pdu.reason == 0x04


def test_send_targets_in_a_normal_session(connect: Connect, server: Server) -> None:
    """Appendix C: its own target only."""
    initiator = connect()
    assert ask(initiator, {"SendTargets": ""})[0] == ("TargetName", server.target.name)
    assert ask(initiator, {"SendTargets": "All"}) == [("SendTargets", "Reject")]
    assert ask(initiator, {"sENDtARGETS": "aLL"}) == [("sENDtARGETS", "NotUnderstood")]


@pytest.mark.parametrize("wanted", ["Alle", "A", "all", "disk", "Reject"])
@pytest.mark.parametrize("name", [None, "normal"])
def test_send_targets_of_no_value(connect: Connect, server: Server, name: str | None, wanted: str) -> None:
    """Appendix C: All, a name or nothing; 6.2: any other value is rejected, and the session goes on."""
    initiator = connect(login=False)
    initiator.login(name and server.target.name)
    assert ask(initiator, {"SendTargets": wanted}) == [("SendTargets", "Reject")]
    assert ask(initiator, {"SendTargets": server.target.name})[0] == ("TargetName", server.target.name)


def test_what_may_change_in_full_feature_phase(connect: Connect) -> None:
    """13: MaxRecvDataSegmentLength may; what the login settled may not."""
    initiator = connect()
    assert ask(initiator, {"MaxRecvDataSegmentLength": "512", "MaxBurstLength": "1024"}) == [
        ("MaxBurstLength", "Reject")
    ]
    read = initiator.command(bytes.fromhex("28000000000000000200"), data_in_length=1024)
    assert (len(read.data), read.pdus) == (1024, 2)


def test_text_that_is_none(connect: Connect) -> None:
    initiator = connect()
    initiator.send(Text(0x44, 0x80, 0, bytes(8), 5, 0xFFFFFFFF, initiator.cmd_sn, 0), b"no pair\0")
    assert isinstance(initiator.receive_frame()[0], Reject)


Answer = TextResponse | Reject


def say(initiator: Initiator, flags: int, transfer_tag: int, data: bytes, tag: int = 5) -> Answer:
    initiator.send(Text(0x44, flags, 0, bytes(8), tag, transfer_tag, initiator.cmd_sn, 0), data)
    pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, Answer)
    return pdu


def test_the_target_ends_no_sequence_that_the_initiator_goes_on_with(connect: Connect) -> None:
    """11.11.1: F is not 1 in the answer to a request whose F is 0."""
    initiator = connect()
    first = say(initiator, 0x00, NO_TAG, b"X-a=1\0")
    assert isinstance(first, TextResponse)
    assert (first.flags, first.transfer_tag != NO_TAG) == (0x00, True)
    last = say(initiator, 0x80, first.transfer_tag, b"X-b=1\0")
    assert isinstance(last, TextResponse)
    assert (last.flags, last.transfer_tag) == (0x80, NO_TAG)


def test_a_key_twice_in_a_sequence(connect: Connect) -> None:
    """6.4: a protocol error, after which the negotiation begins anew."""
    initiator = connect()
    first = say(initiator, 0x00, NO_TAG, b"X-a=1\0")
    assert isinstance(first, TextResponse)
    refused = say(initiator, 0x80, first.transfer_tag, b"X-a=2\0")
    assert isinstance(refused, Reject)
    assert refused.reason == 0x04
    assert isinstance(say(initiator, 0x80, NO_TAG, b"X-a=3\0"), TextResponse)


@pytest.mark.parametrize(
    ("flags", "transfer_tag", "tag", "reason"),
    [(0xC0, NO_TAG, 5, 0x04), (0x80, 1, 5, 0x09), (0x80, 77, 5, 0x09), (0x80, 1, 6, 0x09)],
)
def test_requests_that_make_no_sequence(
    connect: Connect, flags: int, transfer_tag: int, tag: int, reason: int
) -> None:
    """11.10.2: F and C together; 11.10.4: a tag of ours that is none, or of another task."""
    initiator = connect()
    if tag == 6:
        assert isinstance(say(initiator, 0x00, NO_TAG, b"X-a=1\0"), TextResponse)
    refused = say(initiator, flags, transfer_tag, b"X-b=1\0", tag)
    assert isinstance(refused, Reject)
    assert refused.reason == reason


def test_text_without_end(connect: Connect) -> None:
    """11.10.2: the C bit, for more text than anybody needs."""
    initiator = connect()
    for transfer_tag in (NO_TAG, 1, 1):
        request = Text(0x44, 0x40, 0, bytes(8), 5, transfer_tag, initiator.cmd_sn, 0)
        initiator.send(request, b"A=" + b"x" * 8000)
        pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, Reject)
