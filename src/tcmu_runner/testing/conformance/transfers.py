"""Checks of reading and writing. A check is named after its function; the docstring is the rule it checks."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Sequence
from itertools import pairwise

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.testing.conformance.bench import Bench, Region, ring_memory
from tcmu_runner.testing.conformance.violation import BreachError

KEEPING = "copy what you need, bytes(buffer), before the call returns"


def read(bench: Bench) -> None:
    """every buffer is filled to its end"""
    for offset, length in ((0, 5 * bench.block_size), (7 * bench.block_size, bench.block_size)):
        one, other = (bench.read(offset, [length], untouched) for untouched in (0xA5, 0x5A))
        at = iov.first_difference(one, other)
        if at is not None and (one[at], other[at]) == (0xA5, 0x5A):
            raise BreachError(
                f"read of {length} bytes at {offset} left byte {at} of the buffer as it was",
                "fill it all, buffer[:] = ..., with zeroes where nothing is stored",
            )


def write(bench: Bench) -> None:
    """what is written is read again, and nothing else has changed"""
    bench.need("write")
    region = bench.region(16)
    for block, count in ((0, 1), (15, 1), (3, 5), (4, 2), (0, 16)):
        offset, length = region.part(block, count)
        data = bench.random.randbytes(length)
        bench.write(offset, data)
        region.holds(offset, data)
        region.verify(f"after a write of {length} bytes at {offset}", "store every byte where it belongs")


def bounds(bench: Bench) -> None:
    """the first block, the last one, and the whole disk in one call"""
    block = bench.block_size
    for offset, length in ((0, block), (bench.size - block, block), (0, bench.size)):
        bench.read(offset, [length])
        if bench.can.write:
            data = bench.random.randbytes(length)
            bench.write(offset, data)
            bench.expect(
                offset, data, f"after a write of {length} bytes at {offset}", "serve every byte of the disk"
            )


def many_buffers(bench: Bench) -> None:
    """one call may bring more buffers than a system call takes (IOV_MAX is 1024)"""
    _in_pieces(bench, [bench.block_size] * min(1100, bench.size // bench.block_size))


def odd_splits(bench: Bench) -> None:
    """buffers may have any lengths, only their sum is a whole number of blocks"""
    block = bench.block_size
    _in_pieces(bench, [1, block - 1, block + 1, 2 * block - 1])
    _in_pieces(bench, [block - 2, 3, *[1] * 7, block - 8])
    _in_pieces(bench, [3 * block + 5, block - 5])


def buffers(bench: Bench) -> None:
    """buffers are another's again after the call: they are neither kept nor, by a write, changed"""
    lengths = [bench.block_size, 2 * bench.block_size]
    offset = bench.size // 2 // bench.block_size * bench.block_size
    if bench.can.write:
        _lent_to_write(bench, offset, lengths)
    first = bench.read(offset, lengths)
    into = ring_memory(bytes(sum(lengths)), lengths)
    _lend(bench, into, offset, "read")
    iov.scatter(into, bytes(sum(lengths)))
    bench.expect(offset, first, "after the buffers of a read were used for something else", KEEPING)
    _take_back(into, "read")


def _lent_to_write(bench: Bench, offset: int, lengths: Sequence[int]) -> None:
    data = bench.random.randbytes(sum(lengths))
    pieces = ring_memory(data, lengths)
    _lend(bench, pieces, offset, "write")
    if iov.gather(pieces) != data:
        raise BreachError("write changed the data in its buffers", "change a copy, bytearray(buffer)")
    iov.zero(pieces)
    bench.expect(offset, data, "after the buffers of a write were used for something else", KEEPING)
    _take_back(pieces, "write")


def _lend(bench: Bench, pieces: Buffers, offset: int, name: str) -> None:
    given = list(pieces)
    bench.perform(name, lambda handler: (handler.read if name == "read" else handler.write)(given, offset))
    if [*map(id, given)] != [*map(id, pieces)]:
        raise BreachError(f"{name} changed the list of buffers", "change a copy of it, list(buffers)")


def _take_back(pieces: Buffers, name: str) -> None:
    """The ring's memory can be freed only when no view of it is left."""
    memory = pieces[0].obj
    assert isinstance(memory, mmap.mmap)
    while pieces:
        pieces.pop().release()
    gc.collect()
    try:
        memory.close()
    except BufferError:
        raise BreachError(f"{name} keeps a view of its buffers", KEEPING) from None


def flush(bench: Bench) -> None:
    """it returns when there is something to flush, and when there is nothing"""
    bench.need("flush")
    for _ in range(2):
        bench.perform("flush", lambda handler: handler.flush())
    if bench.can.write:
        region = bench.region(4)
        bench.perform("flush after a write", lambda handler: handler.flush())
        region.verify("after a flush", "keep what is flushed")


def write_durable(bench: Bench) -> None:
    """a durable write (FUA) stores what a plain one does"""
    bench.need("write")
    region = bench.region(8)
    offset, length = region.part(2, 3)
    data = bench.random.randbytes(length)
    lengths = [length - 5, 5]
    pieces = ring_memory(data, lengths)
    bench.perform("write_durable", lambda handler: handler.write_durable(list(pieces), offset))
    region.holds(offset, data)
    region.verify("after write_durable", "store as write() does, then make sure of it")


def random_sequence(bench: Bench) -> None:
    """300 random calls, beside a copy in memory"""
    bench.need("write")
    region = bench.region(64)
    changes = ["write", *(name for name in ("unmap", "write_zeroes", "flush") if getattr(bench.can, name))]
    if not bench.can.unmap_reads_zero and "unmap" in changes:
        changes.remove("unmap")
    for step in range(300):
        first = bench.random.randrange(64)
        offset, length = region.part(first, bench.random.randint(1, 64 - first))
        _change(bench, region, bench.random.choice(changes), offset, length)
        if step % 3 == 0:
            region.verify(
                f"in step {step} of a random sequence", "run the check again, it is the same each time"
            )


def _change(bench: Bench, region: Region, name: str, offset: int, length: int) -> None:
    if name == "write":
        data = bench.random.randbytes(length)
        bench.write(offset, data, random_lengths(bench, length))
        region.holds(offset, data)
    elif name == "unmap":
        bench.perform(name, lambda handler: handler.unmap(offset, length))
        region.holds(offset, bytes(length))
    elif name == "write_zeroes":
        unmap = bench.random.random() < 0.5
        bench.perform(name, lambda handler: handler.write_zeroes(offset, length, unmap=unmap))
        region.holds(offset, bytes(length))
    else:
        bench.perform(name, lambda handler: handler.flush())


def random_lengths(bench: Bench, length: int) -> list[int]:
    cuts = sorted({0, length, *(bench.random.randrange(1, length) for _ in range(bench.random.randrange(4)))})
    return [end - start for start, end in pairwise(cuts)]


def _in_pieces(bench: Bench, lengths: Sequence[int]) -> None:
    """Writes and reads in the pieces; what the other side of each sees is in one piece."""
    offset = bench.size // bench.block_size // 3 * bench.block_size
    offset = min(offset, bench.size - sum(lengths))
    way_out = "fill or drain one buffer after the other, each with its own len(buffer)"
    if bench.can.write:
        data = bench.random.randbytes(sum(lengths))
        bench.write(offset, data, lengths)
        bench.expect(offset, data, f"after a write from {len(lengths)} buffers", way_out)
    whole, pieces = bench.read(offset, [sum(lengths)]), bench.read(offset, lengths)
    at = iov.first_difference(whole, pieces)
    if at is not None and not bench.setup.forgets:
        raise BreachError(f"a read into {len(lengths)} buffers gets byte {at} wrong", way_out)
