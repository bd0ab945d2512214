"""Text requests of full feature phase, as conversations (RFC 7143, 11.10, 11.11)."""

from __future__ import annotations

import pytest

from iscsi.conversation import FIRST_CMD_SN, Conversation
from tcmu_runner.iscsi.pdu import NO_TAG
from tcmu_runner.iscsi.requests import Text
from tcmu_runner.iscsi.responses import Reject, TextResponse
from tcmu_runner.iscsi.target_connection import Event
from tcmu_runner.iscsi.text_exchange import TRANSFER_TAG, TargetsRequested

FINAL, CONTINUE = 0x80, 0x40


@pytest.fixture
def me() -> Conversation:
    found = Conversation()
    found.login(MaxRecvDataSegmentLength="512")
    return found


def say(
    me: Conversation, data: bytes, flags: int = FINAL, transfer_tag: int = NO_TAG, tag: int = 5
) -> Event | None:
    return me.say(Text(0x44, flags, 0, bytes(8), tag, transfer_tag, FIRST_CMD_SN, 0), data)


def answered(me: Conversation) -> tuple[int, int, bytes]:
    """Flags, Target Transfer Tag and text of the response."""
    pdu, data = me.hear()
    assert isinstance(pdu, TextResponse)
    return pdu.flags, pdu.transfer_tag, data


def rejected(me: Conversation) -> int:
    pdu, _ = me.hear()
    assert isinstance(pdu, Reject)
    return pdu.reason


def test_the_target_is_asked_for_targets(me: Conversation) -> None:
    """Appendix C; other keys of the request are negotiated, and answered after them."""
    event = say(me, b"SendTargets=All\0X-a=1\0")
    assert isinstance(event, TargetsRequested)
    assert event.wanted == "All"
    assert me.heard() == []
    event.answer([("TargetName", "iqn.a:disk"), ("TargetAddress", "127.0.0.1:3260,1")])
    assert answered(me) == (
        FINAL,
        NO_TAG,
        b"TargetName=iqn.a:disk\0TargetAddress=127.0.0.1:3260,1\0X-a=NotUnderstood\0",
    )


def test_an_answer_in_pieces(me: Conversation) -> None:
    """11.11.2: as long as the initiator takes, with C until the last one."""
    event = say(me, b"SendTargets=All\0")
    assert isinstance(event, TargetsRequested)
    event.answer([("TargetName", "x" * 600)])
    flags, tag, first = answered(me)
    assert (flags, tag, len(first)) == (CONTINUE, TRANSFER_TAG, 512)
    assert say(me, b"", transfer_tag=tag) is None
    flags, tag, second = answered(me)
    assert (flags, tag) == (FINAL, NO_TAG)
    assert first + second == b"TargetName=" + b"x" * 600 + b"\0"


def test_what_may_still_be_negotiated(me: Conversation) -> None:
    """13.12: MaxRecvDataSegmentLength, a declaration; 13.13: not MaxBurstLength."""
    assert say(me, b"MaxRecvDataSegmentLength=1024\0MaxBurstLength=512\0") is None
    assert answered(me) == (FINAL, NO_TAG, b"MaxBurstLength=Reject\0")
    assert me.target.parameters.send_segment == 1024


def test_a_question_in_pieces(me: Conversation) -> None:
    """11.10.2: C; each piece is answered with nothing."""
    assert say(me, b"Send", CONTINUE) is None
    assert answered(me) == (0, TRANSFER_TAG, b"")
    event = say(me, b"Targets=\0", transfer_tag=TRANSFER_TAG)
    assert isinstance(event, TargetsRequested)
    assert event.wanted == ""


def test_a_sequence_that_the_initiator_goes_on_with(me: Conversation) -> None:
    """11.11.1: F is not 1 in the answer to a request whose F is 0; 6.4: a key comes once in a sequence."""
    assert say(me, b"X-a=1\0", 0) is None
    assert answered(me) == (0, TRANSFER_TAG, b"X-a=NotUnderstood\0")
    assert say(me, b"X-a=2\0", transfer_tag=TRANSFER_TAG) is None
    assert rejected(me) == 0x04
    assert say(me, b"X-a=2\0", transfer_tag=TRANSFER_TAG) is None  # the sequence is over
    assert rejected(me) == 0x09


@pytest.mark.parametrize(
    ("data", "flags", "transfer_tag", "tag", "reason"),
    [
        (b"X-b=1\0", FINAL | CONTINUE, NO_TAG, 5, 0x04),  # 11.10.2
        (b"no pair\0", FINAL, NO_TAG, 5, 0x04),
        (b"X-b=1\0", FINAL, 77, 5, 0x09),  # 11.10.4: no tag of ours
        (b"X-b=1\0", FINAL, TRANSFER_TAG, 6, 0x09),  # ... of another task
        (b"A=" + b"x" * 16384, CONTINUE, NO_TAG, 5, 0x04),  # more than is needed
    ],
)
def test_requests_that_make_no_sequence(
    me: Conversation, data: bytes, flags: int, transfer_tag: int, tag: int, reason: int
) -> None:
    assert say(me, b"X-a=1\0", 0) is None
    me.hear()
    assert say(me, data, flags, transfer_tag, tag) is None
    assert rejected(me) == reason
