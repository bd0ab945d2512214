from __future__ import annotations

import sys

import pytest

from tcmu_runner import ConfigError
from tcmu_runner.filters.luks.kdf import derive
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import Derivation


def secret(data: bytes) -> Secret:
    made = Secret(len(data))
    made.view[:] = data
    return made


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # RFC 7914, section 11: PBKDF2-HMAC-SHA-256 of "Password", "NaCl", 80000 iterations
        (
            Derivation("pbkdf2", b"NaCl", 80000),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56",
        ),
        # made by `argon2 somesalt -id|-i -t 2 -m 16 -p 1` of the reference implementation (its test.c)
        (
            Derivation("argon2id", b"somesalt", 2, 65536, 1),
            "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
        ),
        (
            Derivation("argon2i", b"somesalt", 2, 65536, 1),
            "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0",
        ),
    ],
)
def test_published_vectors(how: Derivation, expected: str) -> None:
    passphrase = b"Password" if how.kind == "pbkdf2" else b"password"
    with secret(passphrase) as given, derive(given, how, 32) as key:
        assert bytes(key.view).hex() == expected


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2.low_level", None)
    with secret(b"x") as given, pytest.raises(ConfigError, match="needs the package argon2-cffi"):
        derive(given, Derivation("argon2id", b"somesalt", 1, 64, 1), 32)


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argon2.low_level.core", lambda *_: -22)
    with secret(b"x") as given, pytest.raises(ConfigError, match="Memory allocation error; it needs 64 MiB"):
        derive(given, Derivation("argon2id", b"somesalt", 1, 65536, 1), 32)
