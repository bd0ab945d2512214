"""Key slots: the volume key, encrypted with a passphrase."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os

from tcmu_runner.filters.luks import af
from tcmu_runner.filters.luks.kdf import derive
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import AREA_ALIGNMENT, Derivation, Digest, Keyslot, Volume
from tcmu_runner.filters.luks.xts import SECTOR, xts

STRIPES = 4000  # as cryptsetup makes them
DIGEST_ITERATIONS = 1000  # few are enough: the key is random and cannot be guessed


def unseal(slot: Keyslot, material: memoryview, passphrase: Secret) -> Secret:
    """Returns a candidate for the volume key; a wrong passphrase gives noise, so ask `matches`. material: the
    slot's encrypted key material."""
    with derive(passphrase, slot.derivation, slot.area_key_size) as key, Secret(slot.material) as plain:
        xts(key, SECTOR).decrypt(plain.view, material, 0)
        return af.merge(plain, slot.key_size, slot.stripes, slot.hash)


def seal(key: Secret, passphrase: Secret, derivation: Derivation, offset: int) -> tuple[Keyslot, bytes]:
    """Returns a key slot 0 that has its key material at `offset`, and that material, encrypted."""
    size = -(-len(key) * STRIPES // AREA_ALIGNMENT) * AREA_ALIGNMENT
    slot = Keyslot(0, len(key), offset, size, len(key), STRIPES, "sha256", derivation)
    material = bytearray(os.urandom(size))
    with (
        derive(passphrase, derivation, len(key)) as key_of_area,
        af.split(key, STRIPES, slot.hash) as plain,
    ):
        view = memoryview(material)[: len(plain)]
        view[:] = plain.view
        xts(key_of_area, SECTOR).encrypt(view, view, 0)
    return slot, bytes(material)


def digest_of(key: Secret) -> Digest:
    """Returns the digest of the volume key in key slot 0."""
    empty = Digest("sha256", DIGEST_ITERATIONS, os.urandom(32), bytes(32), frozenset({0}))
    return Digest(empty.hash, empty.iterations, empty.salt, _hashed(key, empty), empty.keyslots)


def matches(key: Secret, digest: Digest) -> bool:
    """Returns whether this is the volume key."""
    return hmac.compare_digest(_hashed(key, digest), digest.value)


def _hashed(key: Secret, digest: Digest) -> bytes:
    return hashlib.pbkdf2_hmac(digest.hash, key.view, digest.salt, digest.iterations, len(digest.value))


def gap(volume: Volume, start: int, size: int) -> int:
    """Returns the first offset, from `start` to the data, where `size` bytes belong to no key slot. Raises
    OSError if there is none."""
    at = start
    for slot in sorted(volume.areas, key=lambda each: each.offset):
        if at + size <= slot.offset:
            break
        at = max(at, slot.offset + slot.size)
    if at + size > volume.data_offset:
        raise OSError(
            errno.ENOSPC, "all key slots of the LUKS volume are full: free one with cryptsetup luksKillSlot"
        )
    return at
