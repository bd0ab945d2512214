"""A LUN's counters in shared memory: written by the process that serves it, read by any other.

The memory is an array of native 64-bit numbers: a head, a block for each opcode, errors by sense, and the
last slow commands; then the text of the storage's last failure. One thread at a time writes; a reader may see
one command half counted.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tcmu_runner.clock import MACHINE, Clock

VERSION = 3
# words: version, commands under way, monotonic ns when the oldest began, number of slow commands, Unix us of
# the last failure and bytes of its text
HEAD = 8
VERSION_AT, UNDER_WAY_AT, OLDEST_AT, SLOW_COUNT_AT, FAILED_AT, FAILURE_LENGTH_AT = 0, 1, 2, 3, 4, 5
BUCKETS = 28  # of latency: bucket n counts commands of less than 2^n microseconds
COUNT, BYTES, ERRORS, MICROSECONDS, HISTOGRAM = 0, 1, 2, 3, 4  # words of an opcode's block
BLOCK = HISTOGRAM + BUCKETS
ERRORS_AT = HEAD + 256 * BLOCK
KINDS = 64  # kinds of errors with a counter of their own; the last one takes the rest
SLOW_AT = ERRORS_AT + 2 * KINDS
SLOTS = 32  # the last slow commands
# words of each: Unix us of its end, duration in us, bytes, status << 8 | length of the CDB (at most
# 16 bytes of it), and the CDB
SLOT = 6
FAILURE_AT = 8 * (SLOW_AT + SLOTS * SLOT)  # bytes
FAILURE_BYTES = 512
SIZE = FAILURE_AT + FAILURE_BYTES  # bytes
SLOW_SECONDS = 1.0
OTHER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class OpcodeStatistics:
    """bytes: of data, both directions. microseconds: sum over all commands, from ring to ring. histogram:
    bucket n counts commands of less than 2^n microseconds and at least half of it."""

    opcode: int
    count: int
    bytes: int
    errors: int
    microseconds: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slow:
    """A slow command. cdb: its first 16 bytes. ended: Unix time. bytes: of data."""

    cdb: bytes
    ended: float
    seconds: float
    status: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """under_way: commands not yet answered. oldest: seconds since the oldest of them began, 0 without any.
    errors: number of commands by (status, sense key, ASC, ASCQ). slow_count: number of slow commands; slow:
    the last of them, the latest at the end. failure: the last error of storage or handler; failed_at: its
    Unix time, 0 without any."""

    under_way: int
    oldest: float
    opcodes: tuple[OpcodeStatistics, ...]
    errors: dict[tuple[int, int, int, int], int]
    slow_count: int = 0
    slow: tuple[Slow, ...] = ()
    failed_at: float = 0.0
    failure: str = ""


def create() -> int:
    """A descriptor of memory for one LUN, to be passed to another process."""
    descriptor = os.memfd_create("tcmu-statistics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SIZE)
    # Sealed: a process that truncated it would kill each reader, also the supervisor, by SIGBUS.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


class Statistics:
    """A LUN's numbers in mapped memory; without a descriptor, in private memory.

    slow_seconds: the duration from which on the caller also calls `record_slow`.
    """

    def __init__(self, descriptor: int = -1) -> None:
        self.slow_seconds = SLOW_SECONDS
        self._map = mmap.mmap(descriptor, SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._words[VERSION_AT] = VERSION

    def close(self) -> None:
        self._words.release()
        self._map.close()

    def record(
        self, opcode: int, length: int, seconds: float, status: int, sense: bytes, *, count: int = 1
    ) -> None:
        """Counts an ended command, or `count` commands of equal duration with `length` bytes in sum. The
        caller holds the lock for publishing completions."""
        words, at = self._words, HEAD + opcode * BLOCK
        microseconds = int(seconds * 1e6)
        words[at] += count
        words[at + BYTES] += length
        words[at + MICROSECONDS] += microseconds * count
        bucket = microseconds.bit_length()
        words[at + HISTOGRAM + (bucket if bucket < BUCKETS else BUCKETS - 1)] += count
        if status:
            words[at + ERRORS] += 1
            self._record_error(status << 24 | _sense_code(sense))

    def _record_error(self, code: int) -> None:
        words = self._words
        last = SLOW_AT - 2
        for at in range(ERRORS_AT, last, 2):
            if words[at] in (0, code):
                words[at] = code
                words[at + 1] += 1
                return
        words[last] = OTHER
        words[last + 1] += 1

    def record_slow(self, cdb: bytes, length: int, seconds: float, status: int) -> None:
        """Keeps a command among the last slow ones; call it beside `record`, under the same lock."""
        words, cdb = self._words, bytes(cdb[:16])
        at = SLOW_AT + words[SLOW_COUNT_AT] % SLOTS * SLOT
        words[at] = time.time_ns() // 1000
        words[at + 1] = int(seconds * 1e6)
        words[at + 2] = length
        words[at + 3] = status << 8 | len(cdb)
        padded = cdb.ljust(16, b"\0")
        words[at + 4] = int.from_bytes(padded[:8], "big")
        words[at + 5] = int.from_bytes(padded[8:], "big")
        words[SLOW_COUNT_AT] += 1

    def record_failure(self, text: str) -> None:
        """Keeps the text of a failure. One thread at a time, any thread."""
        told = text.encode(errors="backslashreplace")[:FAILURE_BYTES]
        self._map[FAILURE_AT : FAILURE_AT + len(told)] = told
        self._words[FAILURE_LENGTH_AT] = len(told)
        self._words[FAILED_AT] = time.time_ns() // 1000

    def _failure(self) -> str:
        length = min(self._words[FAILURE_LENGTH_AT], FAILURE_BYTES)
        return self._map[FAILURE_AT : FAILURE_AT + length].decode(errors="ignore")

    @property
    def slow_count(self) -> int:
        return self._words[SLOW_COUNT_AT]

    def gauge(self, under_way: int, oldest: float | None) -> None:
        """Sets the present state. oldest: the clock's monotonic() when the oldest command began."""
        self._words[UNDER_WAY_AT] = under_way
        self._words[OLDEST_AT] = int((oldest or 0) * 1e9)

    def snapshot(self, clock: Clock = MACHINE) -> Snapshot:
        """The numbers at this moment. Any process. clock: that of the commands, for the oldest one's age."""
        oldest = self._words[OLDEST_AT] / 1e9
        return Snapshot(
            self._words[UNDER_WAY_AT],
            max(clock.monotonic() - oldest, 0.0) if oldest else 0.0,
            tuple(self._opcodes()),
            dict(self._errors()),
            self.slow_count,
            tuple(self.slow()),
            self._words[FAILED_AT] / 1e6,
            self._failure(),
        )

    def slow(self, after: int = 0) -> Iterator[Slow]:
        """The last slow commands, the latest at the end; without the first `after` since the beginning."""
        count = self.slow_count
        for number in range(max(after, count - SLOTS), count):
            at = SLOW_AT + number % SLOTS * SLOT
            ended, took, length, outcome, *cdb = self._words[at : at + SLOT]
            whole = b"".join(word.to_bytes(8, "big") for word in cdb)
            yield Slow(whole[: outcome & 0xFF], ended / 1e6, took / 1e6, outcome >> 8, length)

    def _opcodes(self) -> Iterator[OpcodeStatistics]:
        for opcode in range(256):
            at = HEAD + opcode * BLOCK
            if self._words[at]:
                count, length, errors, microseconds, *histogram = self._words[at : at + BLOCK]
                yield OpcodeStatistics(opcode, count, length, errors, microseconds, tuple(histogram))

    def _errors(self) -> Iterator[tuple[tuple[int, int, int, int], int]]:
        for at in range(ERRORS_AT, ERRORS_AT + 2 * KINDS, 2):
            if count := self._words[at + 1]:
                status, key, asc, ascq = (self._words[at] & OTHER).to_bytes(4, "big")
                yield (status, key, asc, ascq), count


def _sense_code(sense: bytes) -> int:
    """Key, ASC, ASCQ of fixed or descriptor format sense (SPC-5 4.4); 0 without sense."""
    if not sense:
        return 0
    if sense[0] & 0x7F >= 0x72:
        key, asc, ascq = sense[1], sense[2], sense[3]
    else:
        key, asc, ascq = sense[2], sense[12], sense[13]
    return (key & 0x0F) << 16 | asc << 8 | ascq
