"""CHAP: RFC 1994, 4.1 with the encodings of RFC 7143, 12.1.3."""

import hashlib

import pytest

from tcmu_runner.iscsi import chap
from tcmu_runner.iscsi.chap import Chap, ChapError, Credentials

SECRET, CHALLENGE = "correct horse battery", bytes(range(16))
CREDENTIALS = Credentials({"alice": SECRET}, "disk", "another long secret")


def begun(algorithm: str = "5", credentials: Credentials = CREDENTIALS) -> Chap:
    exchange = Chap(credentials, 0x2A, CHALLENGE)
    exchange.offer(algorithm)
    return exchange


def md5(identifier: int, secret: str, challenge: bytes) -> str:
    return "0x" + hashlib.md5(bytes((identifier,)) + secret.encode() + challenge).hexdigest()


@pytest.mark.parametrize(
    ("offered", "taken"), [("5", "5"), ("5,7", "5"), ("7,5", "7"), ("6,8,7", "8"), ("55,x,,5", "5")]
)
def test_offer(offered: str, taken: str) -> None:
    """12.1.3: the initiator lists hashes in order of preference; 6.2.1: the first that is known is taken."""
    answer = Chap(CREDENTIALS, 0x2A, CHALLENGE).offer(offered)
    assert answer == [("CHAP_A", taken), ("CHAP_I", "42"), ("CHAP_C", "0x000102030405060708090a0b0c0d0e0f")]


def test_numbers_may_be_hexadecimal() -> None:
    """12.1.3: algorithms and identifiers are numbers, of either form (6.1)."""
    assert begun("0x7").offered
    answer = begun().verify(
        {"CHAP_N": "alice", "CHAP_R": md5(0x2A, SECRET, CHALLENGE), "CHAP_I": "0x07", "CHAP_C": "0x0102"}
    )
    assert answer == [("CHAP_N", "disk"), ("CHAP_R", md5(7, "another long secret", b"\1\2"))]


@pytest.mark.parametrize("identifier", ["", "256", "007", "\u0663", "0x"])
def test_what_is_no_identifier(identifier: str) -> None:
    proof = md5(0x2A, SECRET, CHALLENGE)
    pairs = {"CHAP_N": "alice", "CHAP_R": proof, "CHAP_I": identifier, "CHAP_C": "0x0102"}
    with pytest.raises(ChapError, match="CHAP_I"):
        begun().verify(pairs)


def test_no_hash_in_common() -> None:
    with pytest.raises(ChapError, match="no hash in common"):
        Chap(CREDENTIALS, 1, CHALLENGE).offer("6,9")


def test_right_secret() -> None:
    exchange = begun()
    assert exchange.verify({"CHAP_N": "alice", "CHAP_R": md5(0x2A, SECRET, CHALLENGE)}) == []
    assert exchange.user == "alice"


def test_sha256() -> None:
    proof = hashlib.sha256(b"\x2a" + SECRET.encode() + CHALLENGE).hexdigest()
    assert begun("7").verify({"CHAP_N": "alice", "CHAP_R": "0x" + proof}) == []


@pytest.mark.parametrize(("name", "secret"), [("alice", "wrong"), ("bob", SECRET), ("bob", "")])
def test_wrong_name_or_secret(name: str, secret: str) -> None:
    with pytest.raises(ChapError, match="wrong name or secret"):
        begun().verify({"CHAP_N": name, "CHAP_R": md5(0x2A, secret, CHALLENGE)})


def test_mutual() -> None:
    answer = begun().verify(
        {"CHAP_N": "alice", "CHAP_R": md5(0x2A, SECRET, CHALLENGE), "CHAP_I": "7", "CHAP_C": "0bAQIDBA=="}
    )
    assert answer == [("CHAP_N", "disk"), ("CHAP_R", md5(7, "another long secret", b"\1\2\3\4"))]


def test_our_own_challenge_is_not_answered() -> None:
    """9.2.1: it would let an initiator log in with our answer."""
    with pytest.raises(ChapError, match="our challenge back"):
        begun().verify(
            {
                "CHAP_N": "alice",
                "CHAP_R": md5(0x2A, SECRET, CHALLENGE),
                "CHAP_I": "42",
                "CHAP_C": "0x" + CHALLENGE.hex(),
            }
        )


@pytest.mark.parametrize("proof", [{"CHAP_I": "256", "CHAP_C": "0x01"}, {"CHAP_I": "1"}, {"CHAP_C": "0x01"}])
def test_malformed_mutual(proof: dict[str, str]) -> None:
    with pytest.raises(ChapError):
        begun().verify({"CHAP_N": "alice", "CHAP_R": md5(0x2A, SECRET, CHALLENGE), **proof})


def test_mutual_without_a_secret_of_ours() -> None:
    exchange = begun(credentials=Credentials({"alice": SECRET}))
    with pytest.raises(ChapError, match="no secret of ours"):
        exchange.verify(
            {"CHAP_N": "alice", "CHAP_R": md5(0x2A, SECRET, CHALLENGE), "CHAP_I": "1", "CHAP_C": "0x01"}
        )


@pytest.mark.parametrize(("text", "value"), [("0x0aFF", b"\x0a\xff"), ("0xF", b"\x0f"), ("0BAQI=", b"\1\2")])
def test_binary_values(text: str, value: bytes) -> None:
    assert chap.read_binary(text) == value


@pytest.mark.parametrize("text", ["", "12", "0x", "0xzz", "0b!", "0b=", "0x" + "00" * 1025, "0xéé", "0béééé"])
def test_what_is_no_binary_value(text: str) -> None:
    with pytest.raises(ChapError):
        chap.read_binary(text)


def test_secrets_are_not_shown() -> None:
    assert SECRET not in repr(CREDENTIALS)
    assert "another" not in repr(CREDENTIALS)
