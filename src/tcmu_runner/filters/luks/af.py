"""The anti-forensic splitter (LUKS1 specification 1.2.3, 2.4): a key as stripes; all of them are needed.

A disk may keep old copies of some sectors. Without the other stripes, those copies do not give the key.
"""

from __future__ import annotations

import hashlib

from tcmu_runner.filters.luks.secret import Secret


def split(key: Secret, count: int, digest: str) -> Secret:
    """Returns `count` stripes of the key's size, one behind the other."""
    size = len(key)
    stripes = Secret.random(size * count)
    mixed = _mix(stripes, size, count - 1, digest)
    _xor(stripes.view[-size:], key.view, mixed)
    return stripes


def merge(stripes: Secret, size: int, count: int, digest: str) -> Secret:
    """Returns the key of `size` bytes. Bytes behind the last stripe (padding to a sector) are ignored."""
    key = Secret(size)
    mixed = _mix(stripes, size, count - 1, digest)
    _xor(key.view, stripes.view[size * (count - 1) : size * count], mixed)
    return key


def _mix(stripes: Secret, size: int, count: int, digest: str) -> bytes:
    """Returns the hash chain over the first `count` stripes. It may stay in memory: it gives the key
    only together with the last stripe."""
    mixed = 0
    for at in range(0, size * count, size):
        stripe = int.from_bytes(stripes.view[at : at + size], "big")
        mixed = int.from_bytes(_diffuse((mixed ^ stripe).to_bytes(size, "big"), digest), "big")
    return mixed.to_bytes(size, "big")


def _diffuse(data: bytes, digest: str) -> bytes:
    """Replaces each piece, as long as a digest, by digest(number of the piece + piece), cut to its length."""
    size = hashlib.new(digest).digest_size
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(
        hashlib.new(digest, number.to_bytes(4, "big") + piece).digest()[: len(piece)]
        for number, piece in enumerate(pieces)
    )


def _xor(into: memoryview, one: memoryview, other: bytes) -> None:
    """XORs byte by byte. CPython keeps the integers 0 to 255 anyway, so no object with key bytes is left."""
    for at in range(len(into)):
        into[at] = one[at] ^ other[at]
