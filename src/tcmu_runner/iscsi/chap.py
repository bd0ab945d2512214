"""CHAP as iSCSI uses it (RFC 7143, 12.1.3; RFC 1994; algorithm numbers as IANA has them for PPP)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from tcmu_runner.iscsi.text import NegotiationError, number

SECRET_LEAST = 12  # bytes: 9.2.1 wants 96 bits where no IPsec protects the connection
CHALLENGE_LENGTH = 32
BINARY_MAX = 1024  # bytes: 12.1.3
_HASHES = {"5": "md5", "6": "sha1", "7": "sha256", "8": "sha3_256"}
ALGORITHMS = {"7", "8", "5"}  # SHA-1 only adds another old hash to MD5, which all speak


class ChapError(Exception):
    """The initiator proved nothing, or does not speak CHAP as the RFC has it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """users: the secret of each initiator name (CHAP_N) that may log in. name, secret: our own, for
    initiators that ask for proof; empty: we cannot give any."""

    users: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"<Credentials of {', '.join(self.users)}>"


def read_binary(text: str) -> bytes:
    """A hexadecimal or base64 constant (6.1). Raises ChapError."""
    try:
        if text[:2] in ("0x", "0X"):
            value = binascii.unhexlify(text[2:] if len(text) % 2 == 0 else "0" + text[2:])
        elif text[:2] in ("0b", "0B"):
            value = base64.b64decode(text[2:], validate=True)
        else:
            raise ChapError(f"no binary value: {text[:20]!r}")
    except ValueError:  # which binascii.Error is one of; another one where it is not ASCII
        raise ChapError(f"no binary value: {text[:20]!r}") from None
    if not 0 < len(value) <= BINARY_MAX:
        raise ChapError(f"binary value of {len(value)} bytes")
    return value


def response(algorithm: str, identifier: int, secret: str, challenge: bytes) -> bytes:
    """RFC 1994, 4.1: the hash of identifier, secret and challenge."""
    digest = hashlib.new(_HASHES[algorithm], usedforsecurity=False)
    digest.update(bytes((identifier,)) + secret.encode() + challenge)
    return digest.digest()


def _algorithm(text: str) -> str:
    """The number as `_HASHES` has it; empty for what is none."""
    try:
        return str(number(text, 0, 255))
    except NegotiationError:
        return ""


class Chap:
    """The target's side of one exchange: `offer`, then `verify`."""

    def __init__(self, credentials: Credentials, identifier: int, challenge: bytes) -> None:
        self._credentials = credentials
        self._identifier = identifier
        self._challenge = challenge
        self._algorithm = ""
        self.user = ""

    @property
    def offered(self) -> bool:
        return bool(self._algorithm)

    def offer(self, algorithms: str) -> list[tuple[str, str]]:
        """The answer to CHAP_A: the first hash that we know of the initiator's list (6.2.1), which is in its
        order of preference (12.1.3). Raises ChapError.
        """
        for algorithm in map(_algorithm, algorithms.split(",")):
            if algorithm in ALGORITHMS:
                self._algorithm = algorithm
                return [
                    ("CHAP_A", algorithm),
                    ("CHAP_I", str(self._identifier)),
                    ("CHAP_C", "0x" + self._challenge.hex()),
                ]
        raise ChapError(f"no hash in common: {algorithms[:40]}")

    def verify(self, pairs: Mapping[str, str]) -> list[tuple[str, str]]:
        """Checks CHAP_N and CHAP_R, and answers CHAP_I and CHAP_C when the initiator wants proof, too.

        Raises ChapError; the text is for the log, and tells the initiator nothing.
        """
        user = pairs["CHAP_N"]
        given = read_binary(pairs["CHAP_R"])
        secret = self._credentials.users.get(user)
        # An unknown user takes as long as a wrong secret.
        expected = response(self._algorithm, self._identifier, secret or "", self._challenge)
        if not hmac.compare_digest(given, expected) or secret is None:
            raise ChapError(f"wrong name or secret for {user!r}")
        self.user = user
        return self._prove(pairs) if "CHAP_I" in pairs or "CHAP_C" in pairs else []

    def _prove(self, pairs: Mapping[str, str]) -> list[tuple[str, str]]:
        own = self._credentials
        if not own.secret:
            raise ChapError("the initiator wants mutual CHAP, and no secret of ours is configured")
        try:
            identifier = number(pairs.get("CHAP_I", ""), 0, 255)
        except NegotiationError as error:
            raise ChapError(f"CHAP_I {str(error)[:20]!r}") from None
        challenge = read_binary(pairs.get("CHAP_C", ""))
        if challenge == self._challenge:  # 9.2.1: else it could let us answer our own challenge
            raise ChapError("the initiator sent our challenge back")
        proof = response(self._algorithm, identifier, own.secret, challenge)
        return [("CHAP_N", own.name), ("CHAP_R", "0x" + proof.hex())]
