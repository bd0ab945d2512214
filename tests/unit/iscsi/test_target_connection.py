"""Login, the order of requests, and small requests, as conversations. Clauses are those of RFC 7143."""

from __future__ import annotations

import pytest

from iscsi.conversation import FIRST_CMD_SN, TARGET, TSIH, Conversation
from tcmu_runner.iscsi.inbound import ManagementRequested
from tcmu_runner.iscsi.login import LoginError, LoginStatus
from tcmu_runner.iscsi.pdu import NO_TAG, encode
from tcmu_runner.iscsi.pending import PendingCommand
from tcmu_runner.iscsi.requests import Logout, NopOut, ScsiCommand, Snack, TaskManagementRequest
from tcmu_runner.iscsi.responses import (
    AsyncMessage,
    FunctionResponse,
    LoginResponse,
    LogoutResponse,
    NopIn,
    Reject,
    TaskManagementResponse,
)
from tcmu_runner.iscsi.scsi_response import answer
from tcmu_runner.iscsi.target_connection import (
    LOGIN_REQUESTS_MAX,
    LoginCompleted,
    LoginRefused,
    ProtocolViolated,
)
from tcmu_runner.iscsi.target_session import IMMEDIATE_MAX, QUEUE_DEPTH, TargetSession
from tcmu_runner.iscsi.text import Parameters

NAMES = {"InitiatorName": "iqn.b:me", "TargetName": TARGET}
PING = NopOut(0x40, 0x80, 0, bytes(8), 77, NO_TAG, FIRST_CMD_SN, 0)
TEST_UNIT_READY = bytes(6)
FINAL = 0x80


@pytest.fixture
def me() -> Conversation:
    """In full feature phase."""
    found = Conversation()
    found.login()
    return found


def reject_reason(me: Conversation) -> int:
    """Of the one Reject."""
    pdu, _ = me.hear()
    assert isinstance(pdu, Reject)
    return pdu.reason


def unit_ready(tag: int, cmd_sn: int) -> ScsiCommand:
    return ScsiCommand(0x01, FINAL, 0, bytes(8), tag, 0, cmd_sn, 0, bytes(16))


# Login


def test_nothing_goes_on_before_a_login_is_answered() -> None:
    me = Conversation()
    event = me.login_request(NAMES)
    assert isinstance(event, LoginCompleted)
    phase = event.phase
    assert (phase.initiator, phase.target, event.request.cmd_sn) == ("iqn.b:me", TARGET, FIRST_CMD_SN)
    assert me.say(PING) is None
    assert me.heard() == []
    me.target.enter(TargetSession(TSIH, phase.parameters))
    assert me.target.next_event() is None
    assert [type(pdu) for pdu, _ in me.heard()] == [LoginResponse, NopIn]


def test_the_response_names_session_and_window() -> None:
    """11.13: TSIH, and a StatSN that begins where the initiator says it expects it."""
    me = Conversation()
    event = me.login_request(NAMES)
    assert isinstance(event, LoginCompleted)
    session = TargetSession(TSIH, event.phase.parameters)
    session.begin(FIRST_CMD_SN)
    me.target.enter(session)
    response, _ = me.hear()
    assert isinstance(response, LoginResponse)
    assert (response.status, response.tsih, response.stat_sn) == (0, TSIH, 1)
    assert (response.exp_cmd_sn, response.max_cmd_sn) == (FIRST_CMD_SN, FIRST_CMD_SN + QUEUE_DEPTH - 1)
    assert session.connections == {0: me.target}
    assert me.say(PING) is None
    pong, _ = me.hear()
    assert isinstance(pong, NopIn)
    assert pong.stat_sn == 2


def test_a_login_of_several_requests() -> None:
    """7.2: text that is not complete is answered without an event, and before there is a session."""
    me = Conversation()
    assert me.login_request(NAMES, 0x44) is None  # C: the text goes on
    response, data = me.hear()
    assert isinstance(response, LoginResponse)
    assert (response.flags, response.tsih, data) == (0x04, 0, b"")
    assert (response.exp_cmd_sn, response.max_cmd_sn) == (FIRST_CMD_SN, FIRST_CMD_SN)
    assert isinstance(me.login_request({"HeaderDigest": "None"}), LoginCompleted)


def test_a_login_to_what_is_not_there() -> None:
    me = Conversation()
    event = me.login_request({**NAMES, "TargetName": "iqn.a:other"})
    assert event == LoginRefused("no target 'iqn.a:other'")
    response, _ = me.hear()
    assert isinstance(response, LoginResponse)
    assert response.status == LoginStatus.TARGET_NOT_FOUND
    assert me.target.closed
    assert me.login_request(NAMES) is None  # nothing is received any longer
    assert me.heard() == []


def test_a_session_that_is_refused() -> None:
    """11.13.5; T and the next stage are not in the response."""
    me = Conversation()
    assert isinstance(me.login_request(NAMES), LoginCompleted)
    assert me.target.refuse(LoginError(LoginStatus.OUT_OF_RESOURCES, "no more")) == LoginRefused("no more")
    response, _ = me.hear()
    assert isinstance(response, LoginResponse)
    assert (response.status, response.flags, response.tsih) == (LoginStatus.OUT_OF_RESOURCES, 0x07, 0)
    assert me.target.closed


def test_another_request_before_the_login() -> None:
    """7.1: only Login requests are taken before full feature phase; there is nothing to answer."""
    me = Conversation()
    assert me.say(PING) == ProtocolViolated("it did not log in")
    assert me.heard() == []
    assert me.target.closed
    assert me.target in me.unsent  # so that its transport is closed


def test_a_login_without_end() -> None:
    me = Conversation()
    for _ in range(LOGIN_REQUESTS_MAX):
        assert me.login_request(NAMES, 0x04) is None
    assert me.login_request(NAMES, 0x04) == ProtocolViolated("it did not log in")


@pytest.mark.parametrize(("header", "data"), [("CRC32C", "None"), ("None", "CRC32C"), ("None", "None")])
def test_digests_begin_after_the_login(header: str, data: str) -> None:
    """13.1: the conversation reads the login's response without, and what follows with the digests."""
    me = Conversation()
    me.login(HeaderDigest=header, DataDigest=data)
    assert me.say(PING, b"hello") is None
    pong, echoed = me.hear()
    assert isinstance(pong, NopIn)
    assert echoed == b"hello"


def test_a_further_connection_has_the_sessions_parameters() -> None:
    """13: keys of use LO are the leading login's, those of scope CO each connection's own."""
    leading, second = Conversation(), Conversation()
    session = leading.login(MaxConnections="2", MaxBurstLength="4096", InitialR2T="No")
    second.login(session, cid=1, MaxRecvDataSegmentLength="512")
    assert session.connections == {0: leading.target, 1: second.target}
    found = second.target.parameters
    assert (found.max_burst, found.initial_r2t, found.send_segment) == (4096, False, 512)
    assert leading.target.parameters.send_segment == Parameters().send_segment


@pytest.mark.parametrize("data", [b"\x3f" + bytes(47), bytes(4) + b"\0\xff\xff\xff" + bytes(40)])
def test_a_stream_that_makes_no_sense(me: Conversation, data: bytes) -> None:
    """7.6: an opcode that is none, a segment longer than was declared."""
    event = me.feed(b"\x1e" + data[1:] if data[0] else data)
    assert isinstance(event, ProtocolViolated)
    assert event.reason.startswith("it sent what is no iSCSI: ")
    assert me.target.closed
    assert me.say(PING) is None


# The order of requests


def test_requests_out_of_order_wait_for_their_turn(me: Conversation) -> None:
    """4.2.2.1: the later CmdSN comes first."""
    first, second = next(me.cmd_sn), next(me.cmd_sn)
    assert me.say(unit_ready(102, second)) is None
    event = me.say(unit_ready(101, first))
    assert isinstance(event, PendingCommand)
    assert event.pdu.tag == 101
    event = me.target.next_event()
    assert isinstance(event, PendingCommand)
    assert event.pdu.tag == 102
    assert me.target.next_event() is None


def test_a_request_that_another_connection_lets_go_on() -> None:
    """4.2.2.1: commands are numbered over all connections; 4.2.2: the answer goes to its own one."""
    one, other = Conversation(), Conversation()
    session = one.login(MaxConnections="2")
    other.login(session, cid=1)
    first, second = next(one.cmd_sn), next(one.cmd_sn)
    ping = NopOut(0x00, FINAL, 0, bytes(8), 5, NO_TAG, second, 0)
    assert other.say(ping, b"data of its own") is None
    assert isinstance(one.say(unit_ready(101, first)), PendingCommand)
    assert one.target.next_event() is None
    assert one.heard() == []
    pong, data = other.hear()
    assert isinstance(pong, NopIn)
    assert (pong.tag, data) == (5, b"data of its own")


def test_requests_of_a_connection_that_is_gone_are_forgotten(me: Conversation) -> None:
    session = me.target.session
    first, second, third = (next(me.cmd_sn) for _ in range(3))
    assert me.say(unit_ready(102, second)) is None
    assert session.skip(third)  # of no connection
    session.forget(me.target)
    assert [*session.held] == [third]
    event = me.say(unit_ready(101, first))
    assert isinstance(event, PendingCommand)
    assert session.exp_cmd_sn == second


@pytest.mark.parametrize("number", [FIRST_CMD_SN - 1, FIRST_CMD_SN + QUEUE_DEPTH])
def test_requests_outside_the_window_are_ignored(me: Conversation, number: int) -> None:
    assert me.say(unit_ready(1, number)) is None
    assert me.heard() == []


def test_too_many_immediate_requests(me: Conversation) -> None:
    """11.17.1: 06h; an answer makes room."""
    for tag in range(IMMEDIATE_MAX):
        last = me.say(unit_ready(tag, FIRST_CMD_SN)._replace(opcode=0x41))
    assert isinstance(last, PendingCommand)
    assert me.say(PING) is None
    assert reject_reason(me) == 0x06
    answer(last, 0)
    me.hear()
    assert me.say(PING) is None
    assert isinstance(me.hear()[0], NopIn)


# Task management


def test_a_function_is_an_event_and_its_answer_a_response(me: Conversation) -> None:
    """11.6: the response to a request that is not immediate opens the window by one."""
    request = TaskManagementRequest(0x02, 0x82, 0, bytes(8), 9, NO_TAG, next(me.cmd_sn), 0, 0, 0)
    event = me.say(request)
    assert event == ManagementRequested(me.target, request)
    assert me.heard() == []
    event.answer(FunctionResponse.NO_SUCH_LUN)
    response, _ = me.hear()
    assert isinstance(response, TaskManagementResponse)
    assert (response.tag, response.response) == (9, 2)
    assert (response.exp_cmd_sn, response.max_cmd_sn) == (FIRST_CMD_SN + 1, FIRST_CMD_SN + QUEUE_DEPTH)


def test_commands_go_on_over_one_that_was_skipped(me: Conversation) -> None:
    """11.6.1: ABORT TASK of a command that never came."""
    missing, later = next(me.cmd_sn), next(me.cmd_sn)
    assert me.say(unit_ready(102, later)) is None
    abort = TaskManagementRequest(0x42, 0x81, 0, bytes(8), 9, 101, later + 1, 0, missing, 0)
    assert isinstance(me.say(abort), ManagementRequested)
    assert me.target.session.skip(missing)
    event = me.target.next_event()
    assert isinstance(event, PendingCommand)
    assert event.pdu.tag == 102


# Small requests


@pytest.mark.parametrize("segment", [8192, 512])
def test_a_ping_comes_back(segment: int) -> None:
    """11.18: with its data, as far as the initiator takes that in one PDU (11.19)."""
    me = Conversation()
    me.login(MaxRecvDataSegmentLength=str(segment))
    assert me.say(PING, bytes(1000)) is None
    pong, data = me.hear()
    assert isinstance(pong, NopIn)
    assert (pong.tag, pong.transfer_tag, len(data)) == (77, NO_TAG, min(segment, 1000))


def test_a_nop_out_without_a_tag_wants_no_answer(me: Conversation) -> None:
    """11.18.1"""
    assert me.say(PING._replace(tag=NO_TAG)) is None
    assert me.heard() == []


def test_a_ping_of_the_target_uses_up_no_number(me: Conversation) -> None:
    """11.19.1, 11.19.2"""
    me.target.ping()
    first, _ = me.hear()
    me.target.ping()
    second, _ = me.hear()
    assert isinstance(first, NopIn)
    assert isinstance(second, NopIn)
    assert (first.tag, first.stat_sn) == (NO_TAG, second.stat_sn)
    assert NO_TAG != first.transfer_tag != second.transfer_tag != NO_TAG


def test_a_wrong_data_digest() -> None:
    """7.8: the PDU is rejected, and dropped; its number is used up."""
    me = Conversation()
    me.login(DataDigest="CRC32C")
    ping = NopOut(0x00, FINAL, 4, bytes(8), 5, NO_TAG, next(me.cmd_sn), 0)
    assert me.feed(encode(ping) + b"ping" + b"nope") is None
    assert reject_reason(me) == 0x02
    assert me.target.session.max_cmd_sn == FIRST_CMD_SN + QUEUE_DEPTH


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (Snack(0x10, 0x80, 0, bytes(8), 1, NO_TAG, 0, 0, 0), 0x03),  # 11.16: none at recovery level 0
        (NopIn(0x20, 0x80, 0, bytes(8), 1, NO_TAG, 0, 0, 0), 0x04),  # a target's
    ],
)
def test_requests_that_are_none(me: Conversation, pdu: Snack | NopIn, reason: int) -> None:
    assert me.say(pdu) is None
    assert reject_reason(me) == reason
    assert not me.target.closed


@pytest.mark.parametrize(
    "request_",
    [
        unit_ready(1, FIRST_CMD_SN),
        TaskManagementRequest(0x02, 0x82, 0, bytes(8), 9, NO_TAG, FIRST_CMD_SN, 0, 0, 0),
    ],
)
def test_no_commands_in_a_discovery_session(request_: ScsiCommand | TaskManagementRequest) -> None:
    """4.3; the request's place in the window is free again."""
    me = Conversation()
    session = me.login(discovery=True)
    assert me.say(request_) is None
    assert reject_reason(me) == 0x04
    assert session.max_cmd_sn == FIRST_CMD_SN + QUEUE_DEPTH


# The end


@pytest.mark.parametrize(
    ("reason", "cid", "response", "leaving"),
    [(0, 0, 0, {0, 1}), (1, 1, 0, {1}), (1, 0, 0, {0}), (1, 9, 1, set()), (2, 0, 2, set())],
)
def test_logout(reason: int, cid: int, response: int, leaving: set[int]) -> None:
    """11.14.1, 11.15.1: of the session, of a connection, of one that is not there; no recovery."""
    one, other = Conversation(), Conversation()
    session = one.login(MaxConnections="2")
    other.login(session, cid=1)
    assert one.say(Logout(0x46, 0x80 | reason, 0, 4, cid, FIRST_CMD_SN, 0)) is None
    found, _ = one.hear()
    assert isinstance(found, LogoutResponse)
    assert (found.tag, found.response) == (4, response)
    connections = {0: one.target, 1: other.target}
    assert {number for number, each in connections.items() if each.closed and each.logged_out} == leaving


def test_nothing_is_sent_after_the_end(me: Conversation) -> None:
    event = me.say(unit_ready(1, next(me.cmd_sn)))
    assert isinstance(event, PendingCommand)
    me.target.close()
    answer(event, 0)
    assert me.heard() == []
    assert not me.target.session.commands


def test_a_target_that_goes_says_so(me: Conversation) -> None:
    """11.9.1, event 3: all connections of the session are dropped. Before a login nobody needs to know."""
    me.target.drop()
    message, _ = me.hear()
    assert isinstance(message, AsyncMessage)
    assert message.event == 3
    stranger = Conversation()
    stranger.target.drop()
    assert stranger.heard() == []
    assert (me.target.closed, stranger.target.closed) == (True, True)
