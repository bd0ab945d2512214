"""The binary header of LUKS2 (On-Disk Format Specification 1.1, section 2.1): a volume has two copies.

Each copy is the binary header and, up to its size, JSON metadata; a checksum covers both. The copy with the
higher sequence number is the newer one.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass, replace

from tcmu_runner.filters.luks.volume import HeaderError, check_hash, require

PRIMARY, SECONDARY = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
BINARY = 4096  # bytes before the JSON
SIZES = tuple(0x4000 << shift for shift in range(9))  # bytes of a copy; the second one follows

_FIELDS = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_CHECKSUM = slice(_FIELDS.size - 64, _FIELDS.size)


@dataclass(frozen=True, slots=True)
class Header2:
    """size: bytes of one copy. json: text without its padding. Label, uuid and subsystem: ASCII."""

    size: int
    sequence: int
    uuid: str
    json: bytes
    label: bytes = b""
    subsystem: bytes = b""
    hash: str = "sha256"

    def copies(self) -> bytes:
        """Returns both, one behind the other: the first bytes of the volume."""
        return self._copy(PRIMARY, 0) + self._copy(SECONDARY, self.size)

    def _copy(self, magic: bytes, offset: int) -> bytes:
        room = self.size - BINARY
        require(len(self.json) < room, f"has no room for {len(self.json)} bytes of metadata")
        copy = bytearray(self.size)
        _FIELDS.pack_into(
            copy, 0, magic, 2, self.size, self.sequence, self.label, self.hash.encode(), os.urandom(64),
            self.uuid.encode(), self.subsystem, offset, b"", b"",
        )  # fmt: skip
        copy[BINARY : BINARY + len(self.json)] = self.json
        digest = hashlib.new(self.hash, copy).digest()
        copy[_CHECKSUM] = digest.ljust(64, b"\0")
        return bytes(copy)

    def next(self, json: bytes) -> Header2:
        return replace(self, json=json, sequence=self.sequence + 1)


def size_of(block: bytes, magic: bytes, offset: int) -> int:
    """Returns the size of the copy. block: its first 4096 bytes. offset: of the block. Raises HeaderError."""
    found, version, size, *_, own_offset, _, _ = _FIELDS.unpack_from(block)
    require(found == magic, "has no header there")
    require(version == 2, f"is of the unknown LUKS version {version}")
    require(size in SIZES and own_offset == offset, "has a header with a wrong size or offset")
    return int(size)


def parse(copy: bytes) -> Header2:
    """copy: all its bytes. Raises HeaderError if the checksum is wrong."""
    _, _, size, sequence, label, name, _, uuid, subsystem, _, _, checksum = _FIELDS.unpack_from(copy)
    check_hash(hash_ := _text(name))
    blank = bytearray(copy)
    blank[_CHECKSUM] = bytes(64)
    digest = hashlib.new(hash_, blank).digest()
    if checksum[: len(digest)] != digest:
        raise HeaderError("has a header whose checksum is wrong")
    json = copy[BINARY:].partition(b"\0")[0]
    return Header2(size, sequence, _text(uuid), json, label, subsystem, hash_)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("ascii", "replace")
