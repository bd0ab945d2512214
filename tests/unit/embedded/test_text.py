"""Text segments and negotiation results, from RFC 7143, 6 and 13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.embedded import text
from tcmu_runner.embedded.text import NegotiationError, Offer, Parameters, TextError, negotiate


def test_parse_and_render() -> None:
    assert text.parse(b"A=1\0B=x=y\0C=\0\0\0") == {"A": "1", "B": "x=y", "C": ""}
    assert text.render([("A", "1"), ("B", "ü")]) == b"A=1\0B=\xc3\xbc\0"
    assert text.parse(b"") == {}


@pytest.mark.parametrize(
    "data", [b"A\0", b"=1\0", b"K" * 64 + b"=1\0", b"A=\xff\0", b"\xc3\xbc=1\0", b"A=1\0A=2\0"]
)
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(TextError):
        text.parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        pairs = text.parse(data)
    except TextError:
        return
    assert text.parse(text.render(pairs.items())) == pairs
    negotiate(Parameters(), Offer(), pairs)


@pytest.mark.parametrize(("value", "meaning"), [("512", 512), ("0x200", 512), ("0X1f", 31), ("0", 0)])
def test_numbers(value: str, meaning: int) -> None:
    assert text.number(value, 0, 1000) == meaning


@pytest.mark.parametrize("value", ["", "-1", "1001", "0x", "1_0", "1e3", " 5", "5 ", "٣", "0xg", "9" * 21])
def test_what_is_no_number(value: str) -> None:
    with pytest.raises(NegotiationError):
        text.number(value, 0, 1000)


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
    ],
)
def test_answers(offered: str, answer: str) -> None:
    key, _, value = offered.partition("=")
    assert negotiate(Parameters(), Offer(), {key: value}) == [tuple(answer.split("=", 1))]


def test_declarations_have_no_answer() -> None:
    parameters = Parameters()
    pairs = {"MaxRecvDataSegmentLength": "65536", "InitiatorAlias": "me"}
    assert negotiate(parameters, Offer(), pairs) == []
    assert (parameters.send_segment, parameters.initiator_alias) == (65536, "me")


def test_first_burst_never_exceeds_max_burst() -> None:
    """13.14, where the initiator leaves FirstBurstLength at its default of 65536."""
    parameters = Parameters()
    negotiate(parameters, Offer(), {"MaxBurstLength": "4096"})
    assert parameters.first_burst == 4096


def test_a_rejected_value_changes_nothing() -> None:
    parameters = Parameters()
    negotiate(parameters, Offer(), {"MaxBurstLength": "12", "HeaderDigest": "MD4", "ImmediateData": "?"})
    assert parameters == Parameters()
