"""The anti-forensic splitter (LUKS1 specification 1.2.3, 2.4): a key as stripes of which none may miss.

A few stripes that survive somewhere on a disk tell nothing; all of them together are the key.
"""

from __future__ import annotations

import hashlib

from tcmu_runner.filters.luks.secret import Secret


def split(key: Secret, count: int, digest: str) -> Secret:
    """`count` stripes of the key's size, one behind the other."""
    size = len(key)
    stripes = Secret.random(size * count)
    mixed = _mix(stripes, size, count - 1, digest)
    _xor(stripes.view[-size:], key.view, mixed)
    return stripes


def merge(stripes: Secret, size: int, count: int, digest: str) -> Secret:
    """The key, of `size` bytes, of which they are the stripes; what is behind the last one is left out."""
    key = Secret(size)
    mixed = _mix(stripes, size, count - 1, digest)
    _xor(key.view, stripes.view[size * (count - 1) : size * count], mixed)
    return key


def _mix(stripes: Secret, size: int, count: int, digest: str) -> bytes:
    """Of the first `count` stripes. Without the last one it tells nothing of the key."""
    mixed = 0
    for at in range(0, size * count, size):
        stripe = int.from_bytes(stripes.view[at : at + size], "big")
        mixed = int.from_bytes(_diffuse((mixed ^ stripe).to_bytes(size, "big"), digest), "big")
    return mixed.to_bytes(size, "big")


def _diffuse(data: bytes, digest: str) -> bytes:
    """Each piece of a digest's size becomes the digest of its number and itself, cut to its length."""
    size = hashlib.new(digest).digest_size
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(
        hashlib.new(digest, number.to_bytes(4, "big") + piece).digest()[: len(piece)]
        for number, piece in enumerate(pieces)
    )


def _xor(into: memoryview, one: memoryview, other: bytes) -> None:
    """Byte by byte: these numbers are no objects of their own that would stay in memory."""
    for at in range(len(into)):
        into[at] = one[at] ^ other[at]
