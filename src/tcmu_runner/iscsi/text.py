"""Text format: key=value pairs and the values in them (RFC 7143, 6.1). `keys` negotiates with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

KEY_MAX, VALUE_MAX, TEXT_MAX = 63, 255, 16384  # bytes: 6.1, 6.1, and 6.2 with a limit of ours

Pairs = dict[str, str]


class TextError(Exception):
    """Not a list of key=value pairs, longer than anybody needs, or against the rules of negotiation."""


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


_NUMBER = re.compile(r"0|[1-9][0-9]*|0[xX][0-9a-fA-F]+")


def number(text: str, least: int, most: int) -> int:
    """A decimal-constant or hex-constant (6.1) in least..most. Raises NegotiationError."""
    if len(text) > VALUE_MAX or _NUMBER.fullmatch(text) is None:
        raise NegotiationError(text)
    value = int(text, 0)
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


NO_EXCHANGE = 0xFFFFFFFF  # no Initiator Task Tag


class TextExchange:
    """A sequence of text requests, known by its Initiator Task Tag. asked: text that the next request goes on
    with. answer: what is still to be sent. said: its keys so far."""

    def __init__(self, tag: int = NO_EXCHANGE) -> None:
        self.tag = tag
        self.asked = b""
        self.answer = b""
        self.said: Pairs = {}
