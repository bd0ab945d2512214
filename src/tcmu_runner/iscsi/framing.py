"""Cutting a byte stream into PDUs and putting them together, digests included (RFC 7143, 11.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tcmu_runner.iscsi.digest import crc32c, digest
from tcmu_runner.iscsi.pdu import HEADER_LENGTH, padding

AHS_MAX = 255 * 4
DIGEST_LENGTH = 4
READ_AT_LEAST = 65536  # room for one receive, so that many small PDUs come with one system call
_ZEROES = bytes(4)


class FramingError(Exception):
    """The stream is not what it should be: the beginning of the next PDU is unknown from here on."""


class Frame(NamedTuple):
    """One PDU. data: valid until the next `Framer.space`. intact: false when its data digest is wrong."""

    header: bytes
    ahs: bytes
    data: memoryview
    intact: bool


_frame: Callable[[tuple[bytes, bytes, memoryview, bool]], Frame] = partial(tuple.__new__, Frame)
NO_DATA = memoryview(b"")


class Framer:
    """The receiving side of a connection. segment_limit: the longest data segment that is taken."""

    def __init__(self, segment_limit: int) -> None:
        self._limit = segment_limit
        largest = HEADER_LENGTH + AHS_MAX + segment_limit + 3 + 2 * DIGEST_LENGTH
        self._view = memoryview(bytearray(largest + READ_AT_LEAST))
        self._start = self._end = 0
        self.header_digest = self.data_digest = False

    def space(self) -> memoryview:
        """Where to receive to, at least READ_AT_LEAST bytes; then call `received`."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._view) - self._end < READ_AT_LEAST:
            self._view[: self._end - self._start] = self._view[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        return self._view[self._end :]

    def received(self, count: int) -> None:
        self._end += count

    def next(self) -> Frame | None:
        """The next PDU that is here whole. Raises FramingError."""
        view, start = self._view, self._start
        if self._end - start < HEADER_LENGTH:
            return None
        header = view[start : start + HEADER_LENGTH].tobytes()
        at = start + HEADER_LENGTH
        if not self.header_digest and header[4:8] == _ZEROES:
            self._start = at
            return _frame((header, b"", NO_DATA, True))
        return self._with_segments(header, at)

    def _with_segments(self, header: bytes, at: int) -> Frame | None:
        ahs_length, length = header[4] * 4, int.from_bytes(header[5:8], "big")
        if length > self._limit:
            raise FramingError(f"data segment of {length} bytes, {self._limit} at most")
        data = at + ahs_length + (DIGEST_LENGTH if self.header_digest else 0)
        fill = padding(length)
        end = data + length + fill + (DIGEST_LENGTH if self.data_digest and length else 0)
        if end > self._end:
            return None
        view = self._view
        ahs = view[at : at + ahs_length].tobytes()
        if self.header_digest and view[at + ahs_length : data] != digest(header, ahs):
            raise FramingError(
                "wrong header digest"
            )  # 7.7: nothing in it can be believed, not even its length
        intact = True
        if self.data_digest and length:
            stored = data + length + fill
            intact = view[stored:end] == digest(view[data:stored])
        self._start = end
        return Frame(header, ahs, view[data : data + length], intact)


class Sender:
    """What goes out on a connection: `put` PDUs, `take` the bytes."""

    def __init__(self) -> None:
        self.header_digest = self.data_digest = False
        self._parts: list[bytes | memoryview] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, header: bytes, data: bytes | memoryview = b"") -> None:
        """A header, and as much data as its `lengths` tells."""
        parts = self._parts
        parts.append(header)
        if self.header_digest:
            parts.append(digest(header))
        if not data:
            return
        parts.append(data)
        fill = _ZEROES[: padding(len(data))]
        if fill:
            parts.append(fill)
        if self.data_digest:
            parts.append(crc32c(fill, crc32c(data, 0)).to_bytes(4, "little"))

    def take(self) -> bytes:
        """All that was put since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
