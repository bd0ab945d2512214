"""The login phase as a conversation: RFC 7143, 7 and its examples in appendix B."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.chap import Credentials
from tcmu_runner.iscsi.login import LoginPhase, LoginStatus, Policy, Reply
from tcmu_runner.iscsi.requests import Login

OPEN = Policy({"iqn.a:disk"}, portal_group=3, alias="a disk")
GUARDED = Policy({"iqn.a:disk"}, credentials=Credentials({"alice": "a secret of length"}, "disk", "b" * 12))
WHO = {"InitiatorName": "iqn.b:me", "TargetName": "iqn.a:disk"}
# 11.12: T is 0x80, C 0x40, CSG in bits 3-2, NSG in bits 1-0
SECURITY_TO_OPERATIONAL, OPERATIONAL_TO_FULL, SECURITY_TO_FULL = 0x81, 0x87, 0x83


def request(flags: int) -> Login:
    return Login(0x43, flags, 0, 0, 0, b"\0\2\x3d\0\0\1", 0, 1, 0, 1, 1)


def zeroes(count: int) -> bytes:
    return bytes(count)


def say(phase: LoginPhase, flags: int, pairs: dict[str, str]) -> Reply:
    return phase.receive(request(flags), text.render(pairs.items()))


def test_straight_to_full_feature() -> None:
    phase = LoginPhase(OPEN, zeroes)
    reply = say(
        phase, OPERATIONAL_TO_FULL, {**WHO, "HeaderDigest": "CRC32C", "MaxRecvDataSegmentLength": "4096"}
    )
    assert (reply.status, reply.flags, reply.complete) == (0, 0x87, True)
    answers = text.parse(reply.text)
    assert answers.pop("TargetPortalGroupTag") == "3"  # 13.9: in the first answer
    assert answers.pop("TargetAlias") == "a disk"
    assert answers.pop("HeaderDigest") == "CRC32C"
    assert int(answers.pop("MaxRecvDataSegmentLength")) >= 512
    assert answers == {}
    assert (phase.initiator, phase.target, phase.discovery) == ("iqn.b:me", "iqn.a:disk", False)
    assert phase.parameters.send_segment == 4096
    assert phase.parameters.header_digest


def test_both_stages() -> None:
    phase = LoginPhase(OPEN, zeroes)
    reply = say(phase, SECURITY_TO_OPERATIONAL, {**WHO, "AuthMethod": "CHAP,None"})
    assert reply.flags == 0x81
    assert text.parse(reply.text)["AuthMethod"] == "None"
    assert say(phase, OPERATIONAL_TO_FULL, {}).complete


def test_without_transit_the_stage_stays() -> None:
    phase = LoginPhase(OPEN, zeroes)
    assert say(phase, 0x04, WHO).flags == 0x04
    assert say(phase, 0x04, {"InitialR2T": "No"}).flags == 0x04
    assert say(phase, OPERATIONAL_TO_FULL, {}).complete


def test_text_in_pieces() -> None:
    """11.12.2: the C bit; each piece is answered by an empty response."""
    phase = LoginPhase(OPEN, zeroes)
    whole = text.render(WHO.items())
    reply = phase.receive(request(0x44), whole[:25])
    assert (reply.flags, reply.text, reply.status) == (0x04, b"", 0)
    assert phase.receive(request(0x87), whole[25:]).complete


def chap_r(secret: str, challenge: str, identifier: str) -> str:
    data = bytes((int(identifier),)) + secret.encode() + bytes.fromhex(challenge.removeprefix("0x"))
    return "0x" + hashlib.md5(data).hexdigest()


def test_chap() -> None:
    phase = LoginPhase(GUARDED, lambda count: b"\x07" * count)
    assert (
        text.parse(say(phase, SECURITY_TO_OPERATIONAL, {**WHO, "AuthMethod": "None,CHAP"}).text)["AuthMethod"]
        == "CHAP"
    )
    reply = say(phase, SECURITY_TO_OPERATIONAL, {"CHAP_A": "5"})
    assert reply.flags == 0x00  # no transit before the proof
    offer = text.parse(reply.text)
    proof = chap_r("a secret of length", offer["CHAP_C"], offer["CHAP_I"])
    reply = say(phase, SECURITY_TO_OPERATIONAL, {"CHAP_N": "alice", "CHAP_R": proof})
    assert (reply.status, reply.flags) == (0, 0x81)
    assert say(phase, OPERATIONAL_TO_FULL, {}).complete
    assert phase.user == "alice"


def test_mutual_chap_straight_to_full_feature() -> None:
    phase = LoginPhase(GUARDED, lambda count: b"\x07" * count)
    say(phase, 0x00, {**WHO, "AuthMethod": "CHAP"})
    offer = text.parse(say(phase, 0x00, {"CHAP_A": "5"}).text)
    proof = chap_r("a secret of length", offer["CHAP_C"], offer["CHAP_I"])
    pairs = {"CHAP_N": "alice", "CHAP_R": proof, "CHAP_I": "9", "CHAP_C": "0x0102"}
    reply = say(phase, SECURITY_TO_FULL, pairs)
    assert reply.complete
    assert text.parse(reply.text) == {"CHAP_N": "disk", "CHAP_R": chap_r("b" * 12, "0102", "9")}


def test_wrong_secret() -> None:
    phase = LoginPhase(GUARDED, zeroes)
    say(phase, 0x00, {**WHO, "AuthMethod": "CHAP"})
    say(phase, 0x00, {"CHAP_A": "5"})
    reply = say(phase, SECURITY_TO_FULL, {"CHAP_N": "alice", "CHAP_R": "0x00"})
    assert reply.status == LoginStatus.AUTHENTICATION_FAILURE
    assert reply.text == b""


def test_a_challenge_is_good_for_one_answer() -> None:
    phase = LoginPhase(GUARDED, zeroes)
    say(phase, 0x00, {**WHO, "AuthMethod": "CHAP"})
    offer = text.parse(say(phase, 0x00, {"CHAP_A": "5"}).text)
    say(phase, 0x00, {"CHAP_N": "alice", "CHAP_R": "0x00"})
    proof = chap_r("a secret of length", offer["CHAP_C"], offer["CHAP_I"])
    assert say(phase, 0x00, {"CHAP_N": "alice", "CHAP_R": proof}).status == LoginStatus.INITIATOR_ERROR


@pytest.mark.parametrize(
    ("policy", "flags", "pairs", "status"),  # the statuses of 11.13.5
    [
        (OPEN, 0x87, {"TargetName": "iqn.a:disk"}, 0x0207),
        (OPEN, 0x87, {"InitiatorName": "iqn.b:me"}, 0x0207),
        (OPEN, 0x87, {**WHO, "TargetName": "iqn.a:other"}, 0x0203),
        (OPEN, 0x87, {**WHO, "SessionType": "Chat"}, 0x0209),
        (OPEN, 0x87, {**WHO, "InitiatorName": "x" * 224}, 0x0200),
        (OPEN, 0x87, {**WHO, "InitiatorName": "a\nb"}, 0x0200),
        (OPEN, 0x83, {**WHO, "AuthMethod": "CHAP"}, 0x0201),
        (OPEN, 0x83, {**WHO, "CHAP_A": "5"}, 0x0200),
        (GUARDED, 0x87, WHO, 0x0201),
        (GUARDED, 0x83, {**WHO, "AuthMethod": "None"}, 0x0201),
        (GUARDED, 0x83, {**WHO, "CHAP_N": "alice", "CHAP_R": "0x00"}, 0x0200),
        (OPEN, 0x8C, WHO, 0x020B),  # full feature phase is no stage to begin in
        (OPEN, 0x85, WHO, 0x0200),  # to the same stage
        (OPEN, 0x86, WHO, 0x0200),  # stage 2 is reserved
        (OPEN, 0xC4, WHO, 0x0200),  # T and C
    ],
)
def test_refusals(policy: Policy, flags: int, pairs: dict[str, str], status: int) -> None:
    reply = say(LoginPhase(policy, zeroes), flags, pairs)
    assert reply.status == status
    assert not reply.complete or reply.status


def test_without_security_guarded_transit_does_not_happen() -> None:
    phase = LoginPhase(GUARDED, zeroes)
    assert say(phase, SECURITY_TO_FULL, WHO).flags == 0x00


def test_version() -> None:
    newer = request(0x87)._replace(version_min=1)
    assert LoginPhase(OPEN, zeroes).receive(newer, text.render(WHO.items())).status == 0x0205


@pytest.mark.parametrize(
    "changed",
    [
        request(0x87)._replace(tsih=1),
        request(0x87)._replace(cid=1),
        request(0x87)._replace(isid=b"other!"),
        request(0x87)._replace(tag=2),
    ],
    ids=["tsih", "cid", "isid", "tag"],
)
def test_identity_may_not_change(changed: Login) -> None:
    phase = LoginPhase(OPEN, zeroes)
    say(phase, 0x04, WHO)
    assert phase.receive(changed, b"").status == 0x0200


def test_no_way_back_to_the_security_stage() -> None:
    phase = LoginPhase(OPEN, zeroes)
    say(phase, 0x04, WHO)
    assert say(phase, 0x81, {}).status == 0x020B


@pytest.mark.parametrize("key", ["MaxBurstLength", "MaxRecvDataSegmentLength", "X-com.example.speed"])
def test_a_key_is_negotiated_once(key: str) -> None:
    """6.3: a login negotiates or declares no parameter twice; the target answers with an initiator error."""
    phase = LoginPhase(OPEN, zeroes)
    assert say(phase, 0x04, {**WHO, key: "4096"}).status == 0
    assert say(phase, 0x87, {key: "8192"}).status == 0x0200


def test_who_is_there_may_be_said_again() -> None:
    """libiscsi repeats its names in the operational stage after CHAP."""
    phase = LoginPhase(OPEN, zeroes)
    who = {**WHO, "SessionType": "Normal", "InitiatorAlias": "me"}
    assert say(phase, 0x81, {**who, "AuthMethod": "None"}).status == 0
    reply = say(phase, 0x87, who)
    assert (reply.complete, text.parse(reply.text)) == (True, {"MaxRecvDataSegmentLength": "262144"})


@pytest.mark.parametrize("key", ["InitiatorName", "TargetName", "SessionType"])
def test_who_is_there_may_not_change(key: str) -> None:
    phase = LoginPhase(OPEN, zeroes)
    assert say(phase, 0x04, {**WHO, "SessionType": "Normal"}).status == 0
    assert say(phase, 0x87, {key: "Discovery"}).status == 0x0200


def test_operational_keys_wait_for_their_stage() -> None:
    """12: only names and what belongs to authentication are negotiated in the security stage."""
    phase = LoginPhase(OPEN, zeroes)
    pairs = {**WHO, "AuthMethod": "None", "HeaderDigest": "CRC32C"}
    assert text.parse(say(phase, SECURITY_TO_FULL, pairs).text)["HeaderDigest"] == "Reject"
    assert not phase.parameters.header_digest


@pytest.mark.parametrize("flags", [0x87, 0x44])
def test_a_request_longer_than_a_login_allows(flags: int) -> None:
    """13.12: until one side has declared another, its limit for a segment is 8192 bytes."""
    data = text.render([*WHO.items(), ("X-a", "x" * 8192)])
    assert LoginPhase(OPEN, zeroes).receive(request(flags), data).status == 0x0200


def test_an_answer_longer_than_a_login_allows() -> None:
    phase = LoginPhase(OPEN, zeroes)
    assert say(phase, 0x87, {**WHO, **{f"X-{number}": "" for number in range(700)}}).status == 0x0200


def test_text_without_end() -> None:
    phase = LoginPhase(OPEN, zeroes)
    replies = [phase.receive(request(0x44), b"A=" + b"x" * 8000) for _ in range(3)]
    assert [reply.status for reply in replies] == [0, 0, 0x0200]


def test_discovery() -> None:
    phase = LoginPhase(GUARDED, zeroes)
    pairs = {"InitiatorName": "iqn.b:me", "SessionType": "Discovery", "AuthMethod": "CHAP"}
    assert say(phase, 0x00, pairs).status == 0
    assert phase.discovery
    phase = LoginPhase(OPEN, zeroes)
    reply = say(phase, 0x87, {"InitiatorName": "iqn.b:me", "SessionType": "Discovery"})
    assert reply.complete
    assert "TargetPortalGroupTag" not in text.parse(reply.text)


PAIRS = st.dictionaries(
    st.sampled_from(["InitiatorName", "TargetName", "SessionType", "AuthMethod", "CHAP_A", "CHAP_N", "CHAP_R",
                     "CHAP_I", "CHAP_C", "HeaderDigest", "MaxBurstLength"]),
    st.sampled_from(["iqn.b:me", "iqn.a:disk", "Discovery", "CHAP", "None", "5", "alice", "0x00", "512", ""]),
)  # fmt: skip


@given(st.sampled_from([OPEN, GUARDED]), st.lists(st.tuples(st.integers(0, 255), PAIRS), max_size=6))
def test_any_conversation_ends_in_replies(policy: Policy, turns: list[tuple[int, dict[str, str]]]) -> None:
    """Whatever an initiator says is answered, and nobody enters a guarded target without the secret."""
    phase = LoginPhase(policy, zeroes)
    for flags, pairs in turns:
        reply = say(phase, flags, pairs)
        if reply.status:
            break
        assert not (reply.complete and policy is GUARDED)


def test_transit_while_the_text_goes_on() -> None:
    """11.12.2: T and C are not 1 together."""
    reply = say(LoginPhase(OPEN, zeroes), OPERATIONAL_TO_FULL | 0x40, WHO)
    assert (reply.status, reply.complete) == (LoginStatus.INITIATOR_ERROR, False)
