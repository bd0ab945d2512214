from __future__ import annotations

from dataclasses import replace

import pytest

from tcmu_runner.filters.luks.volume import Derivation, Digest, HeaderError, Keyslot, Volume

DIGEST = Digest("sha256", 1000, b"salt", b"d" * 32, frozenset({0, 1, 2}))
SLOT = Keyslot(0, 64, 0x8000, 258048, 64, 4000, "sha256", Derivation("pbkdf2", b"salt", 1000))
VOLUME = Volume(2, "uuid", 16 << 20, 512, DIGEST, (SLOT,))


def test_key_slots_are_tried_by_priority_and_number() -> None:
    slots = [
        replace(SLOT, number=number, priority=priority)
        for number, priority in ((0, 1), (1, 2), (2, 0), (3, 2))
    ]
    volume = replace(VOLUME, keyslots=tuple(slots))
    assert [slot.number for slot in volume.usable] == [1, 0]  # 2 is never tried, 3 is of another key


def test_the_key_material_is_whole_sectors() -> None:
    assert replace(SLOT, key_size=32, stripes=3).material == 512


@pytest.mark.parametrize("size", [0, 100, 8192])
def test_sectors_have_the_sizes_of_dm_crypt(size: int) -> None:
    with pytest.raises(HeaderError, match=f"the LUKS volume has sectors of {size} bytes"):
        replace(VOLUME, sector_size=size)


@pytest.mark.parametrize("kind", ["argon2id", "argon2i"])
def test_argon2_has_eight_kibibytes_for_each_lane_at_least(kind: str) -> None:
    Derivation(kind, b"salt", 1, 32, 4)
    with pytest.raises(HeaderError, match="31 KiB, 4 lanes"):
        Derivation(kind, b"salt", 1, 31, 4)
