"""A bitmap with a bit for each block, in memory or a mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

WINDOW = 1 << 15  # bits converted to an integer at a time


class Memory(Protocol):
    """bytearray, memoryview or mmap: read and written by slices."""

    def __getitem__(self, key: slice, /) -> bytes | bytearray | memoryview: ...

    def __setitem__(self, key: slice, value: bytes, /) -> None: ...


def runs(memory: Memory, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
    """(first, last, value) of each run of equal bits in first..last, ascending; runs also end at windows."""
    while first < last:
        end = min(last, first + WINDOW)
        word = _word(memory, first, end)
        while first < end:
            value = bool(word & 1)
            other = ~word if value else word
            count = min((other & -other).bit_length() - 1, end - first) if other else end - first
            yield first, first + count, value
            word >>= count
            first += count


def fill(memory: Memory, first: int, last: int) -> None:
    """Sets the bits first..last."""
    while first < last:
        end = min(last, first + WINDOW)
        low, high = first >> 3, (end + 7) >> 3
        word = int.from_bytes(memory[low:high], "little") | ((1 << end - first) - 1) << (first & 7)
        memory[low:high] = word.to_bytes(high - low, "little")
        first = end


def all_set(memory: Memory, first: int, last: int) -> bool:
    return all(value for _, _, value in runs(memory, first, last))


def _word(memory: Memory, first: int, last: int) -> int:
    word = int.from_bytes(memory[first >> 3 : (last + 7) >> 3], "little")
    return word >> (first & 7) & ((1 << last - first) - 1)
