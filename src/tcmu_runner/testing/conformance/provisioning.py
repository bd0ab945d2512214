"""Checks of what can be given back: unmap, write_zeroes, extents, space; and of erasing it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tcmu_runner.scsi.operations import Extent, Space
from tcmu_runner.testing.conformance.bench import Bench, Opened, Region
from tcmu_runner.testing.conformance.violation import BreachError

PARTS = ((0, 1), (5, 3), (31, 1), (8, 17), (5, 3), (0, 32))  # (block, count); one of them twice


def unmap(bench: Bench) -> None:
    """only what is unmapped is lost; it reads as zeroes where that is promised, and can be written again"""
    bench.need("unmap", "write")
    region = bench.region(32)
    for block, count in PARTS:
        offset, length = region.part(block, count)
        _unmap(bench, offset, length)
        _is_gone(bench, region, offset, length)
        region.verify(
            f"after unmap({offset}, {length})",
            "clear these bytes and no others, or say unmap_reads_zero = False if they do not read as zeroes",
        )
    _unmap(bench, 0, bench.size)
    bench.region(32).verify("after unmap and another write", "let a write map the bytes again")


def _unmap(bench: Bench, offset: int, length: int) -> None:
    bench.perform(f"unmap({offset}, {length})", lambda handler: handler.unmap(offset, length))


def _zeroing(offset: int, length: int, *, unmap: bool) -> Callable[[Opened], object]:
    return lambda handler: handler.write_zeroes(offset, length, unmap=unmap)


def _is_gone(bench: Bench, region: Region, offset: int, length: int) -> None:
    promised = bench.can.unmap_reads_zero
    region.holds(offset, bytes(length) if promised else bench.read(offset, [length]))


def write_zeroes(bench: Bench) -> None:
    """these bytes and no others read as zeroes, with unmap=True and without, and can be written again"""
    bench.need("write_zeroes", "write")
    for unmap_too in (False, True):
        region = bench.region(32)
        for block, count in PARTS:
            offset, length = region.part(block, count)
            what = f"write_zeroes({offset}, {length}, unmap={unmap_too})"
            bench.perform(what, _zeroing(offset, length, unmap=unmap_too))
            region.holds(offset, bytes(length))
            region.verify(f"after {what}", "zero this range, to the byte")
        bench.region(32).verify("after write_zeroes and another write", "let a write replace the zeroes")


def crypto_erase(bench: Bench) -> None:
    """no stored data can be read, and the disk can be used again"""
    bench.need("crypto_erase", "write")
    region = bench.region(16)
    bench.perform("crypto_erase", lambda handler: handler.crypto_erase())
    found = bench.read(region.offset, [len(region.content)])
    for at in range(0, len(found), bench.block_size):
        block = slice(at, at + bench.block_size)
        if found[block] == region.content[block] and not bench.setup.forgets:
            raise BreachError(
                f"after crypto_erase the block at {region.offset + at} reads as before", "forget the key"
            )
    bench.region(16).verify("after crypto_erase and another write", "go on with a new key")


def extents(bench: Bench) -> None:
    """they tile the range they are asked for; what was written is mapped, and a hole reads as zeroes"""
    bench.need("extents")
    if bench.can.write and not bench.setup.forgets:
        _data_is_mapped(bench)
    block = bench.block_size
    for offset, length in ((0, bench.size), (0, block), (bench.size - block, block), (7 * block, 11 * block)):
        found = _extents(bench, offset, length)
        if bench.can.unmap_reads_zero:
            _holes_are_zeroes(bench, offset, length, found)


def _data_is_mapped(bench: Bench) -> None:
    for extent in _extents(bench, *bench.region(4).part(0, 4)):
        if not extent.mapped:
            raise BreachError(
                f"extents() calls bytes a hole that were written, at {extent.offset}",
                "what may hold data is mapped=True: a copy skips the holes",
            )


def _extents(bench: Bench, offset: int, length: int) -> list[Extent]:
    what, at = f"extents({offset}, {length})", offset
    found = bench.perform(what, lambda handler: handler.extents(offset, length), _listed)
    assert isinstance(found, list)
    for extent in found:
        _check_extent(bench, extent, at, what)
        at += extent.length
    if at != offset + length:
        raise BreachError(f"{what} ends at {at}", "cover the range to its end, and not beyond")
    return found


def _listed(found: object) -> list[object]:
    if not isinstance(found, Iterable):
        raise BreachError(
            f"extents() gives a {type(found).__name__}", "yield Extent objects, or return a list"
        )
    return list(found)


def _check_extent(bench: Bench, extent: object, at: int, what: str) -> None:
    if not isinstance(extent, Extent):
        raise BreachError(
            f"{what} has a {type(extent).__name__}", "give Extent(offset, length, mapped) objects"
        )
    if extent.offset != at:
        raise BreachError(f"{what}: {extent} does not begin at {at}", "in order, without gaps or overlaps")
    if extent.length <= 0 or extent.length % bench.block_size:
        raise BreachError(
            f"{what}: the length of {extent} is no number of whole blocks",
            "count a block that is partly data as data, and leave out what is empty",
        )


def space(bench: Bench) -> None:
    """it tells how many bytes it takes and how many are left"""
    bench.need("space")
    found = bench.perform("space()", lambda handler: handler.space())
    if not isinstance(found, Space) or not all(isinstance(size, int) and size >= 0 for size in found):
        raise BreachError(f"space() gives {found!r}", "return Space(used, available), in bytes, from 0")


def _holes_are_zeroes(bench: Bench, offset: int, length: int, found: list[Extent]) -> None:
    content = bytearray(bench.read(offset, [length]))
    for extent in found:
        if not extent.mapped:
            content[extent.offset - offset : extent.offset - offset + extent.length] = bytes(extent.length)
    bench.expect(offset, content, "in a hole", "a hole reads as zeroes, all else is mapped=True")
