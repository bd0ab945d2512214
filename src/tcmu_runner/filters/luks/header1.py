"""The header of a LUKS1 volume (specification 1.2.3, figures 1 to 3), as cryptsetup makes it."""

from __future__ import annotations

import struct

from tcmu_runner.filters.luks.volume import (
    Derivation,
    Digest,
    Keyslot,
    Volume,
    check_encryption,
    check_hash,
    require,
)
from tcmu_runner.filters.luks.xts import SECTOR

_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_KEYSLOT = struct.Struct(">II32sII")
_ENABLED, _DISABLED = 0x00AC71F3, 0x0000DEAD
_KEYSLOTS = 8


def parse(block: bytes) -> Volume:
    """block: the first 592 bytes of the volume, or more. Raises HeaderError."""
    (_, version, cipher, mode, hash_, data, key_size, digest, salt, iterations, uuid) = _HEADER.unpack_from(
        block
    )
    check_encryption(f"{_text(cipher)}-{_text(mode)}")
    check_hash(name := _text(hash_))
    slots = tuple(
        slot for number in range(_KEYSLOTS) if (slot := _keyslot(block, number, key_size, name)) is not None
    )
    numbers = frozenset(slot.number for slot in slots)
    return Volume(
        version, _text(uuid), data * SECTOR, SECTOR, Digest(name, iterations, salt, digest, numbers), slots
    )


def _keyslot(block: bytes, number: int, key_size: int, hash_: str) -> Keyslot | None:
    state, iterations, salt, offset, stripes = _KEYSLOT.unpack_from(
        block, _HEADER.size + number * _KEYSLOT.size
    )
    require(state in (_ENABLED, _DISABLED), f"has a key slot {number} that is neither in use nor free")
    if state == _DISABLED:
        return None
    size = -(-key_size * stripes // SECTOR) * SECTOR
    derivation = Derivation("pbkdf2", salt, iterations, hash=hash_)
    return Keyslot(number, key_size, offset * SECTOR, size, key_size, stripes, hash_, derivation)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("ascii", "replace")
