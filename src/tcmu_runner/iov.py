"""Scatter/gather lists: a command's bytes in the ring's data area.

`Buffers` is a list of writable memoryviews of format 'B', in order. The functions copy only what they say,
and never change the list that they get.
"""

from collections.abc import Iterable

Buffers = list[memoryview]

ZEROES = memoryview(bytes(1 << 20))


def length(buffers: Iterable[memoryview]) -> int:
    """Bytes in all buffers together."""
    return sum(map(len, buffers))


def allocate(size: int) -> Buffers:
    """Fresh zeroed memory of `size` bytes as one buffer (none when size is 0)."""
    return [memoryview(bytearray(size))] if size else []


def cut(buffers: Buffers, start: int, size: int) -> Buffers:
    """The views of bytes start..start+size, without copying; shorter where the buffers end."""
    found: Buffers = []
    for buffer in buffers:
        if size <= 0:
            break
        if start >= len(buffer):
            start -= len(buffer)
            continue
        piece = buffer[start : start + size]
        found.append(piece)
        size -= len(piece)
        start = 0
    return found


def gather(buffers: Buffers) -> bytes:
    """One bytes copy of all buffers."""
    return bytes(buffers[0]) if len(buffers) == 1 else b"".join(buffers)


def scatter(buffers: Buffers, data: bytes | bytearray | memoryview) -> int:
    """Copies as much of `data` as fits; returns the number of bytes copied."""
    source, copied = memoryview(data), 0
    for buffer in buffers:
        piece = source[copied : copied + len(buffer)]
        buffer[: len(piece)] = piece
        copied += len(piece)
    return copied


def zero(buffers: Buffers) -> None:
    """Overwrites every byte with zero."""
    most = len(ZEROES)
    for buffer in buffers:
        size = len(buffer)
        if size <= most:
            buffer[:] = ZEROES[:size]
            continue
        for at in range(0, size, most):
            piece = buffer[at : at + most]
            piece[:] = ZEROES[: len(piece)]


def first_difference(one: bytes, other: bytes) -> int | None:
    """Offset of the first byte in which two equally long strings differ, None when they are equal."""
    if one == other:
        return None
    low, high = 0, len(one)  # they agree below low and differ somewhere in low..high
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
