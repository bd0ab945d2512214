"""Volumes of cryptsetup's are in test_cryptsetup.py."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.filters.luks import header1
from tcmu_runner.filters.luks.volume import HeaderError


def header(cipher: bytes = b"aes", mode: bytes = b"xts-plain64", state: int = 0x00AC71F3) -> bytes:
    """By the figures 1 to 3 of the specification."""
    fixed = b"LUKS\xba\xbe\0\1" + cipher.ljust(32, b"\0") + mode.ljust(32, b"\0") + b"sha256".ljust(32, b"\0")
    numbers = (4096).to_bytes(4, "big") + (64).to_bytes(4, "big")
    digest = b"d" * 20 + b"s" * 32 + (1000).to_bytes(4, "big") + b"some-uuid".ljust(40, b"\0")
    used = state.to_bytes(4, "big") + (2000).to_bytes(4, "big") + b"t" * 32 + (8).to_bytes(4, "big")
    free = (0x0000DEAD).to_bytes(4, "big") + bytes(40) + (4000).to_bytes(4, "big")
    return (fixed + numbers + digest + used + (4000).to_bytes(4, "big") + free * 7).ljust(4096, b"\0")


def test_it_is_read() -> None:
    volume = header1.parse(header())
    assert (volume.version, volume.uuid, volume.data_offset, volume.sector_size) == (
        1,
        "some-uuid",
        2 << 20,
        512,
    )
    (slot,) = volume.keyslots
    assert (slot.number, slot.key_size, slot.offset, slot.stripes) == (0, 64, 4096, 4000)
    assert (slot.derivation.kind, slot.derivation.time, slot.derivation.hash) == ("pbkdf2", 2000, "sha256")
    assert volume.digest.value == b"d" * 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (header(mode=b"cbc-essiv:sha256"), "is encrypted with aes-cbc-essiv:sha256"),
        (header(cipher=b"serpent"), "serpent-xts-plain64"),
        (header(state=5), "key slot 0 that is neither in use nor free"),
    ],
)
def test_the_reason_is_told(text: bytes, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        header1.parse(text)


@given(at=st.integers(8, 591), value=st.binary(min_size=1, max_size=40))
def test_anything_is_understood_or_refused(at: int, value: bytes) -> None:
    text = bytearray(header())
    text[at : at + len(value)] = value
    with suppress(HeaderError):
        header1.parse(bytes(text))
