from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.filters.luks import keyslots
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import Derivation, Keyslot, Volume

QUICK = Derivation("pbkdf2", b"salt" * 8, 1000)
SIZE = 258048


def secret(data: bytes) -> Secret:
    made = Secret(len(data))
    made.view[:] = data
    return made


def test_only_its_passphrase_opens_it() -> None:
    key = Secret.random(64)
    slot, material = keyslots.seal(key, secret(b"right"), QUICK, 0x8000)
    digest = keyslots.digest_of(key)
    for passphrase, opens in ((b"right", True), (b"wrong", False), (b"right\n", False)):
        found = keyslots.unseal(slot, memoryview(bytearray(material))[: slot.material], secret(passphrase))
        assert (bytes(found.view) == bytes(key.view)) is opens
        assert keyslots.matches(found, digest) is opens
    assert bytes(key.view) not in material


@given(taken=st.sets(st.integers(0, 3)))
def test_a_gap_is_free_and_the_first_one(taken: set[int]) -> None:
    start, room = 0x8000, 4
    slots = tuple(
        Keyslot(number, 64, start + number * SIZE, SIZE, 64, 4000, "sha256", QUICK) for number in taken
    )
    digest = keyslots.digest_of(Secret.random(64))
    volume = Volume(2, "", start + room * SIZE, 512, digest, slots)
    free = sorted(set(range(room)) - taken)
    if free:
        assert keyslots.gap(volume, start, SIZE) == start + free[0] * SIZE
    else:
        with pytest.raises(OSError, match="all key slots of the LUKS volume are full"):
            keyslots.gap(volume, start, SIZE)
