"""Text format and negotiation: key=value pairs, and what follows from two sides' values (RFC 7143, 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

KEY_MAX, VALUE_MAX, TEXT_MAX = 63, 255, 16384  # bytes: 6.1, 6.1, and 6.2 with a limit of ours

Pairs = dict[str, str]


class TextError(Exception):
    """Not a list of key=value pairs, or longer than anybody needs."""


def parse(data: bytes) -> Pairs:
    """The pairs of a text segment; each ends in a NUL byte (6.1). Raises TextError."""
    pairs: Pairs = {}
    for item in data.split(b"\0"):
        if not item:
            continue  # padding, or the end
        key, equals, value = item.partition(b"=")
        if not equals or not 0 < len(key) <= KEY_MAX:
            raise TextError(f"no key=value pair: {item[:40]!r}")
        try:
            name, text = key.decode("ascii"), value.decode("utf-8")
        except UnicodeDecodeError:
            raise TextError(f"not UTF-8: {item[:40]!r}") from None
        if name in pairs:
            raise TextError(f"{name} twice")  # 6.2: a key is sent once in a sequence
        pairs[name] = text
    return pairs


def render(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The text segment of the pairs."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


class NegotiationError(Exception):
    """A value outside its range or of the wrong form: the answer is "Reject" (6.2)."""


def number(text: str, least: int, most: int) -> int:
    """A decimal or 0x hexadecimal constant (6.1) in least..most. Raises NegotiationError."""
    digits, base = (text[2:], 16) if text[:2] in ("0x", "0X") else (text, 10)
    if not digits.isascii() or not digits.isalnum() or len(digits) > 20:
        raise NegotiationError(text)
    try:
        value = int(digits, base)
    except ValueError:
        raise NegotiationError(text) from None
    if not least <= value <= most:
        raise NegotiationError(text)
    return value


def boolean(text: str) -> bool:
    """Yes or No. Raises NegotiationError."""
    if text not in ("Yes", "No"):
        raise NegotiationError(text)
    return text == "Yes"


def choose(text: str, known: Iterable[str]) -> str:
    """The first value of a list that is known, too (6.2.1). Raises NegotiationError when none is."""
    wanted = set(known)
    for value in text.split(","):
        if value in wanted:
            return value
    raise NegotiationError(text)


LARGEST = 0xFFFFFF  # of every length that is negotiated


@dataclass(slots=True)
class Parameters:
    """What was negotiated, or what RFC 7143, 13 says holds without. Lengths are bytes.

    send_segment: the initiator's MaxRecvDataSegmentLength, so the most that one PDU may bring to it.
    receive_segment: ours, which we declare.
    """

    header_digest: bool = False
    data_digest: bool = False
    max_connections: int = 1
    initial_r2t: bool = True
    immediate_data: bool = True
    send_segment: int = 8192
    receive_segment: int = 262144
    max_burst: int = 262144
    first_burst: int = 65536
    time_to_wait: int = 2
    time_to_retain: int = 20
    max_outstanding_r2t: int = 1
    initiator_alias: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """Our side of the negotiation."""

    digests: tuple[str, ...] = ("None", "CRC32C")
    max_connections: int = 8
    initial_r2t: bool = False
    immediate_data: bool = True
    max_burst: int = 1 << 20
    first_burst: int = 262144


Answer = str | None  # None: a declaration, which has no answer
Rule = Callable[[Parameters, Offer, str], Answer]


def _header_digest(parameters: Parameters, offer: Offer, value: str) -> Answer:
    chosen = choose(value, offer.digests)
    parameters.header_digest = chosen == "CRC32C"
    return chosen


def _data_digest(parameters: Parameters, offer: Offer, value: str) -> Answer:
    chosen = choose(value, offer.digests)
    parameters.data_digest = chosen == "CRC32C"
    return chosen


def _max_connections(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.max_connections = min(number(value, 1, 65535), offer.max_connections)
    return str(parameters.max_connections)


def _initial_r2t(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.initial_r2t = boolean(value) or offer.initial_r2t
    return _yes_no(parameters.initial_r2t)


def _immediate_data(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.immediate_data = boolean(value) and offer.immediate_data
    return _yes_no(parameters.immediate_data)


def _segment(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.send_segment = number(value, 512, LARGEST)
    return None


def _max_burst(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.max_burst = min(number(value, 512, LARGEST), offer.max_burst)
    return str(parameters.max_burst)


def _first_burst(parameters: Parameters, offer: Offer, value: str) -> Answer:
    parameters.first_burst = min(number(value, 512, LARGEST), offer.first_burst)
    return str(parameters.first_burst)


def _time_to_wait(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.time_to_wait = number(value, 0, 3600)  # the larger one, and ours is 0
    return str(parameters.time_to_wait)


def _time_to_retain(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 0, 3600)
    parameters.time_to_retain = 0  # error recovery level 0 retains nothing
    return "0"


def _max_outstanding_r2t(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 1, 65535)
    return str(parameters.max_outstanding_r2t)


def _always_yes(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    boolean(value)
    return "Yes"


def _recovery_level(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    number(value, 0, 2)
    return "0"


def _task_reporting(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    return choose(value, ("RFC3720",))


def _protocol_level(_parameters: Parameters, _offer: Offer, value: str) -> Answer:
    return str(min(number(value, 0, 31), 1))  # RFC 7144, 7.1.1: 1 is RFC 7143 itself


def _alias(parameters: Parameters, _offer: Offer, value: str) -> Answer:
    parameters.initiator_alias = value
    return None


def _obsolete(_parameters: Parameters, _offer: Offer, _value: str) -> Answer:
    return "Reject"  # 13.25


RULES: dict[str, Rule] = {
    "HeaderDigest": _header_digest,
    "DataDigest": _data_digest,
    "MaxConnections": _max_connections,
    "InitialR2T": _initial_r2t,
    "ImmediateData": _immediate_data,
    "MaxRecvDataSegmentLength": _segment,
    "MaxBurstLength": _max_burst,
    "FirstBurstLength": _first_burst,
    "DefaultTime2Wait": _time_to_wait,
    "DefaultTime2Retain": _time_to_retain,
    "MaxOutstandingR2T": _max_outstanding_r2t,
    "DataPDUInOrder": _always_yes,
    "DataSequenceInOrder": _always_yes,
    "ErrorRecoveryLevel": _recovery_level,
    "TaskReporting": _task_reporting,
    "iSCSIProtocolLevel": _protocol_level,
    "InitiatorAlias": _alias,
    "IFMarker": _obsolete,
    "OFMarker": _obsolete,
    "IFMarkInt": _obsolete,
    "OFMarkInt": _obsolete,
}
# 13: what a connection of an established session may still negotiate; all else was settled by its first.
OF_CONNECTION = ("HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength")
# 13: what may change in full feature phase.
AT_ANY_TIME = ("MaxRecvDataSegmentLength", "InitiatorAlias")


def _yes_no(value: bool) -> str:
    return "Yes" if value else "No"


def negotiate(parameters: Parameters, offer: Offer, pairs: Pairs) -> list[tuple[str, str]]:
    """Applies an initiator's offers; our answers, in its order. Unknown keys are NotUnderstood (6.2)."""
    answers = []
    for key, value in pairs.items():
        rule = RULES.get(key)
        try:
            answer = "NotUnderstood" if rule is None else rule(parameters, offer, value)
        except NegotiationError:
            answer = "Reject"
        if answer is not None:
            answers.append((key, answer))
    parameters.first_burst = min(parameters.first_burst, parameters.max_burst)  # 13.14
    return answers
