"""What cryptsetup makes of them is in test_cryptsetup.py."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.filters.luks import af
from tcmu_runner.filters.luks.secret import Secret

KEYS = st.sampled_from([32, 64]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def secret(data: bytes) -> Secret:
    made = Secret(len(data))
    made.view[:] = data
    return made


@given(key=KEYS, count=st.integers(1, 9), digest=st.sampled_from(["sha1", "sha256", "sha512"]))
def test_merging_undoes_splitting(key: bytes, count: int, digest: str) -> None:
    split = af.split(secret(key), count, digest)
    assert len(split) == count * len(key)
    assert bytes(af.merge(split, len(key), count, digest).view) == key


@given(key=KEYS, stripe=st.integers(0, 8))
def test_one_damaged_stripe_spoils_it(key: bytes, stripe: int) -> None:
    split = af.split(secret(key), 9, "sha256")
    split.view[stripe * len(key)] ^= 1
    assert bytes(af.merge(split, len(key), 9, "sha256").view) != key


def test_diffusion_is_that_of_the_specification() -> None:
    """LUKS1 specification 1.2.3, 2.4: each block hashed with its big-endian number, the last one cut."""
    two = b"a" * 32 + b"b" * 32
    key = af.merge(secret(two + bytes(64)), 64, 2, "sha256")
    expected = (
        hashlib.sha256(bytes(4) + b"a" * 32).digest() + hashlib.sha256(b"\0\0\0\1" + b"b" * 32).digest()
    )
    assert bytes(key.view) == expected
    key = af.merge(secret(two[:32] + bytes(32)), 32, 2, "sha1")
    expected = hashlib.sha1(bytes(4) + two[:20]).digest() + hashlib.sha1(b"\0\0\0\1" + two[:12]).digest()[:12]
    assert bytes(key.view) == expected


@pytest.mark.parametrize("trailing", [0, 448])
def test_what_is_behind_the_last_stripe_is_left_out(trailing: int) -> None:
    split = af.split(secret(b"k" * 64), 3, "sha256")
    longer = secret(bytes(split.view) + b"\xff" * trailing)
    assert bytes(af.merge(longer, 64, 3, "sha256").view) == b"k" * 64
