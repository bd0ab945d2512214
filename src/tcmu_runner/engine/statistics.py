"""What a LUN has done, in shared memory: written by the process that serves it, read by any other.

The memory is an array of native 64-bit numbers: a head, a block for each opcode, and the errors by sense. One
thread at a time writes; a reader may see one command half counted.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 1
HEAD = 8  # words: version, under way, monotonic ns when the oldest began
VERSION_AT, UNDER_WAY_AT, OLDEST_AT = 0, 1, 2
BUCKETS = 28  # of latency: bucket n counts commands of less than 2^n microseconds
COUNT, BYTES, ERRORS, MICROSECONDS, HISTOGRAM = 0, 1, 2, 3, 4  # words of an opcode's block
BLOCK = HISTOGRAM + BUCKETS
ERRORS_AT = HEAD + 256 * BLOCK
KINDS = 64  # different errors that are told apart; the last slot takes the rest
SIZE = 8 * (ERRORS_AT + 2 * KINDS)  # bytes
OTHER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Opcode:
    """bytes: of data, both directions. microseconds: of all commands together, from the ring to the ring.
    histogram: bucket n counts commands that took less than 2^n microseconds and not less than half of it."""

    opcode: int
    count: int
    bytes: int
    errors: int
    microseconds: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """under_way: commands not yet answered. oldest: seconds since the oldest of them began, 0 without any.
    errors: how often a command ended in (status, sense key, ASC, ASCQ)."""

    under_way: int
    oldest: float
    opcodes: tuple[Opcode, ...]
    errors: dict[tuple[int, int, int, int], int]


def create() -> int:
    """A descriptor of memory for one LUN; it can be passed to another process."""
    descriptor = os.memfd_create("tcmu-statistics", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Statistics:
    """A LUN's numbers in mapped memory; without a descriptor, in memory of this process."""

    def __init__(self, descriptor: int = -1) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._words[VERSION_AT] = VERSION

    def close(self) -> None:
        self._words.release()
        self._map.close()

    def record(
        self, opcode: int, length: int, seconds: float, status: int, sense: bytes, *, count: int = 1
    ) -> None:
        """Counts a command that has ended, or `count` that took as long and have `length` bytes together.
        Under the lock of whoever publishes completions."""
        words, at = self._words, HEAD + opcode * BLOCK
        microseconds = int(seconds * 1e6)
        words[at] += count
        words[at + BYTES] += length
        words[at + MICROSECONDS] += microseconds * count
        words[at + HISTOGRAM + min(microseconds.bit_length(), BUCKETS - 1)] += count
        if status:
            words[at + ERRORS] += 1
            self._record_error(status << 24 | _sense_code(sense))

    def _record_error(self, code: int) -> None:
        words = self._words
        for at in range(ERRORS_AT, ERRORS_AT + 2 * KINDS - 2, 2):
            if words[at] in (0, code):
                words[at] = code
                words[at + 1] += 1
                return
        words[-2] = OTHER
        words[-1] += 1

    def gauge(self, under_way: int, oldest: float | None) -> None:
        """What is the case now. oldest: when the oldest command began, by time.monotonic."""
        self._words[UNDER_WAY_AT] = under_way
        self._words[OLDEST_AT] = int((oldest or 0) * 1e9)

    def snapshot(self) -> Snapshot:
        """The numbers of this moment. Any process."""
        oldest = self._words[OLDEST_AT] / 1e9
        return Snapshot(
            self._words[UNDER_WAY_AT],
            max(time.monotonic() - oldest, 0.0) if oldest else 0.0,
            tuple(self._opcodes()),
            dict(self._errors()),
        )

    def _opcodes(self) -> Iterator[Opcode]:
        for opcode in range(256):
            at = HEAD + opcode * BLOCK
            if self._words[at]:
                count, length, errors, microseconds, *histogram = self._words[at : at + BLOCK]
                yield Opcode(opcode, count, length, errors, microseconds, tuple(histogram))

    def _errors(self) -> Iterator[tuple[tuple[int, int, int, int], int]]:
        for at in range(ERRORS_AT, ERRORS_AT + 2 * KINDS, 2):
            if count := self._words[at + 1]:
                status, key, asc, ascq = self._words[at].to_bytes(4, "big")
                yield (status, key, asc, ascq), count


def _sense_code(sense: bytes) -> int:
    """Key, ASC, ASCQ of fixed or descriptor format sense (SPC-5 4.4); 0 without any."""
    if not sense:
        return 0
    if sense[0] & 0x7F >= 0x72:
        key, asc, ascq = sense[1], sense[2], sense[3]
    else:
        key, asc, ascq = sense[2], sense[12], sense[13]
    return (key & 0x0F) << 16 | asc << 8 | ascq
