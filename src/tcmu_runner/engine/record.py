"""A small JSON record in a file: whole after a kill of the process that writes it, or a power loss.

Two slots are written in turns. Each has a head with a checksum and a number that tells which slot is newer.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping

SLOT = 8192  # bytes
FILE_SIZE = 2 * SLOT
# magic with version, CRC-32 of the rest, number of the write, length of the text
_HEAD = struct.Struct("<4sIQI")
_MAGIC = b"TRS1"
_CRC_FROM = 8


class Record:
    """Owns `descriptor`. Several processes may have the file open; one at a time writes. Not thread-safe.
    lasting: `store` returns when the record is on stable storage."""

    def __init__(self, descriptor: int, *, lasting: bool = False) -> None:
        self._descriptor = descriptor
        self._lasting = lasting
        self._number = 0
        self._text = b""

    def load(self) -> dict[str, object] | None:
        """The record that was stored last; None without a readable one. Raises OSError."""
        found = [slot for number in (0, 1) if (slot := self._slot(number)) is not None]
        if not found:
            return None
        self._number, self._text = max(found)
        try:
            values = json.loads(self._text)
        except (ValueError, RecursionError):  # the checksum is right, but `store` did not write it
            return None
        return values if isinstance(values, dict) else None

    def _slot(self, number: int) -> tuple[int, bytes] | None:
        data = os.pread(self._descriptor, SLOT, number * SLOT)
        if len(data) < _HEAD.size:
            return None
        magic, crc, written, length = _HEAD.unpack_from(data)
        whole = data[: _HEAD.size + length]
        if magic != _MAGIC or len(whole) != _HEAD.size + length or zlib.crc32(whole[_CRC_FROM:]) != crc:
            return None
        return written, whole[_HEAD.size :]

    def store(self, values: Mapping[str, object]) -> None:
        """Writes if the values differ from the last ones. Raises OSError; ValueError if they exceed a
        slot."""
        text = json.dumps(values, separators=(",", ":")).encode()
        if text == self._text:
            return
        if len(text) > SLOT - _HEAD.size:
            raise ValueError(f"{len(text)} bytes are too long for a record")
        number = self._number + 1
        rest = _HEAD.pack(_MAGIC, 0, number, len(text))[_CRC_FROM:] + text
        head = _MAGIC + struct.pack("<I", zlib.crc32(rest))
        os.pwrite(self._descriptor, head + rest, number % 2 * SLOT)
        if self._lasting:
            os.fdatasync(self._descriptor)
        self._number, self._text = number, text

    @property
    def empty(self) -> bool:
        """Whether no record was loaded or stored."""
        return not self._text

    def close(self) -> None:
        os.close(self._descriptor)
