"""Negotiation: the rows of RFC 7143, 13, each with its use and what follows from two sides' values."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi.keys import KEYS, Moment, Stage, negotiate
from tcmu_runner.iscsi.text import Offer, Parameters, TextError


@given(st.dictionaries(st.sampled_from([*KEYS, "X-a"]), st.text(max_size=300)))
def test_any_values_are_answered_or_refused(pairs: dict[str, str]) -> None:
    with suppress(TextError):
        negotiate(Parameters(), Offer(), pairs)


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C"),  # 6.2.1: the first the acceptor can
        ("HeaderDigest=None,CRC32C", "HeaderDigest=None"),
        ("DataDigest=X,CRC32C", "DataDigest=CRC32C"),
        ("DataDigest=SHA", "DataDigest=Reject"),
        ("MaxConnections=3", "MaxConnections=3"),  # 13.2: the smaller one
        ("MaxConnections=60000", "MaxConnections=8"),
        ("MaxConnections=0", "MaxConnections=Reject"),
        ("InitialR2T=Yes", "InitialR2T=Yes"),  # 13.10: or
        ("InitialR2T=No", "InitialR2T=No"),
        ("ImmediateData=No", "ImmediateData=No"),  # 13.11: and
        ("ImmediateData=Yes", "ImmediateData=Yes"),
        ("ImmediateData=yes", "ImmediateData=Reject"),
        ("MaxBurstLength=16776192", "MaxBurstLength=1048576"),  # 13.13: the smaller one
        ("MaxBurstLength=511", "MaxBurstLength=Reject"),
        ("FirstBurstLength=512", "FirstBurstLength=512"),  # 13.14: the smaller one
        ("DefaultTime2Wait=2", "DefaultTime2Wait=2"),  # 13.15: the larger one
        ("DefaultTime2Retain=20", "DefaultTime2Retain=0"),  # 13.16: the smaller one
        ("MaxOutstandingR2T=4", "MaxOutstandingR2T=1"),  # 13.17: the smaller one
        ("DataPDUInOrder=No", "DataPDUInOrder=Yes"),  # 13.18: or
        ("DataSequenceInOrder=No", "DataSequenceInOrder=Yes"),  # 13.19: or
        ("ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0"),  # 13.20: the smaller one
        ("TaskReporting=FastAbort,RFC3720", "TaskReporting=RFC3720"),  # 13.23
        ("iSCSIProtocolLevel=2", "iSCSIProtocolLevel=1"),  # RFC 7144, 7.1.1: the smaller one
        ("IFMarker=No", "IFMarker=Reject"),  # 13.25
        ("OFMarkInt=1~2", "OFMarkInt=Reject"),
        ("X-com.example.speed=9", "X-com.example.speed=NotUnderstood"),  # 6.2
        ("RDMAExtensions=Yes", "RDMAExtensions=NotUnderstood"),  # of RFC 7145
        ("MaxBurstLength=01024", "MaxBurstLength=Reject"),  # 6.1: no decimal-constant begins with 0
        ("SendTargets=All", "SendTargets=Reject"),  # 13.3: only in full feature phase
        ("TargetAlias=mine", "TargetAlias=Reject"),  # 13.6: only targets declare it
        ("AuthMethod=None", "AuthMethod=Reject"),  # 12: only in the security stage
        ("InitiatorAlias=" + "a" * 256, "InitiatorAlias=Reject"),  # 6.1: 255 bytes at most
    ],
)
def test_answers(offered: str, answer: str) -> None:
    key, _, value = offered.partition("=")
    assert negotiate(Parameters(), Offer(), {key: value}) == [tuple(answer.split("=", 1))]


def test_declarations_have_no_answer() -> None:
    parameters = Parameters()
    pairs = {"MaxRecvDataSegmentLength": "65536", "InitiatorAlias": "me", "X#NodeArchitecture": "a,b"}
    assert negotiate(parameters, Offer(), pairs) == []
    assert (parameters.send_segment, parameters.initiator_alias) == (65536, "me")


def test_first_burst_never_exceeds_max_burst() -> None:
    """13.14, where the initiator leaves FirstBurstLength at its default of 65536."""
    parameters = Parameters()
    negotiate(parameters, Offer(), {"MaxBurstLength": "4096"})
    assert parameters.first_burst == 4096


@pytest.mark.parametrize("first", ["FirstBurstLength", "MaxBurstLength"])
def test_the_answer_to_first_burst_is_what_holds(first: str) -> None:
    """13.14: it does not exceed MaxBurstLength, whichever of them is named first."""
    pairs = {first: "", "FirstBurstLength": "65536", "MaxBurstLength": "4096"}
    answers = dict(negotiate(Parameters(), Offer(), pairs))
    assert answers == {"FirstBurstLength": "4096", "MaxBurstLength": "4096"}


@pytest.mark.parametrize("value", ["Reject", "Irrelevant", "NotUnderstood"])
@pytest.mark.parametrize("key", ["InitialR2T", "InitiatorAlias", "HeaderDigest"])
def test_words_that_are_answers_are_no_proposals(key: str, value: str) -> None:
    """6.2: a protocol error."""
    with pytest.raises(TextError):
        negotiate(Parameters(), Offer(), {key: value})


@pytest.mark.parametrize("key", ["TargetPortalGroupTag", "TargetAlias", "MaxRecvDataSegmentLength"])
def test_answers_to_what_we_declared_have_none(key: str) -> None:
    assert negotiate(Parameters(), Offer(), {key: "NotUnderstood"}) == []


def test_what_a_discovery_session_makes_irrelevant() -> None:
    """13: "Irrelevant when: SessionType=Discovery"."""
    at = Moment(discovery=True)
    relevant = {"DefaultTime2Wait", "DefaultTime2Retain", "ErrorRecoveryLevel", "X#NodeArchitecture"}
    for name in OF_A_SESSION - relevant:
        parameters = Parameters()
        assert negotiate(parameters, Offer(), {name: "512"}, at) == [(name, "Irrelevant")]
        assert parameters == Parameters()
    assert negotiate(Parameters(), Offer(), {"DefaultTime2Wait": "3"}, at) == [("DefaultTime2Wait", "3")]


def test_a_rejected_value_changes_nothing() -> None:
    parameters = Parameters()
    negotiate(parameters, Offer(), {"MaxBurstLength": "12", "HeaderDigest": "MD4", "ImmediateData": "?"})
    assert parameters == Parameters()


OF_A_SESSION = {  # use LO in 13.2, 13.10 to 13.20, 13.23, 13.24
    "MaxConnections", "InitialR2T", "ImmediateData", "MaxBurstLength", "FirstBurstLength", "DefaultTime2Wait",
    "DefaultTime2Retain", "MaxOutstandingR2T", "DataPDUInOrder", "DataSequenceInOrder", "ErrorRecoveryLevel",
    "TaskReporting", "iSCSIProtocolLevel", "X#NodeArchitecture",
}  # fmt: skip
OF_A_CONNECTION = {"HeaderDigest", "DataDigest"}  # 13.1: IO
AT_ANY_TIME = {"MaxRecvDataSegmentLength", "InitiatorAlias"}  # 13.12, 13.7: ALL
OBSOLETE = {"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"}  # 13.25: Reject at any time


@pytest.mark.parametrize(
    ("at", "allowed"),
    [
        (Moment(), OF_A_SESSION | OF_A_CONNECTION | AT_ANY_TIME),
        (Moment(leading=False), OF_A_CONNECTION | AT_ANY_TIME),
        (Moment(Stage.FULL_FEATURE), AT_ANY_TIME),
        (Moment(Stage.SECURITY), {"InitiatorAlias"}),  # 12: other keys are not used in this stage
    ],
)
def test_when_a_key_may_be_negotiated(at: Moment, allowed: set[str]) -> None:
    """What may not is rejected, and changes nothing."""
    assert {name for name, key in KEYS.items() if key.allowed(at)} - OBSOLETE == allowed
    for name in {*KEYS} - allowed:
        parameters = Parameters()
        assert negotiate(parameters, Offer(), {name: "512"}, at) == [(name, "Reject")]
        assert parameters == Parameters()
