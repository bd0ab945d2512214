"""Checks of calls under load: many at once, in any order, on the ring's own thread; and of whole commands."""

from __future__ import annotations

import resource
from typing import Any

from tcmu_runner import iov
from tcmu_runner.handler.api import AsyncHandler, NotHandled, RawHandler
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.sense import Status
from tcmu_runner.testing.conformance.bench import Bench, Opened, Region, ring_memory
from tcmu_runner.testing.conformance.callers import Call, Script
from tcmu_runner.testing.conformance.violation import BreachError, NotApplicableError

ROUNDS = 24
READS = 20  # are looked at, whether they wait

CDBS = (
    DISK.row("TEST UNIT READY").cdb(),
    DISK.row("INQUIRY").cdb(length=36),
    DISK.row("READ CAPACITY(10)").cdb(),
    bytes.fromhex("0f0000000000"),  # an operation code of no standard
    bytes.fromhex("c1000000000000000000"),  # one of a vendor's
)


def at_once(bench: Bench) -> None:
    """as many calls at once as it allows do not disturb each other, not even in neighbouring blocks"""
    width = bench.caller.width
    if width < 2:
        raise NotApplicableError("it wants one call at a time")
    region = bench.region(8 * width)
    bench.together(f"{width} calls at once", [_worker(bench, region, number) for number in range(width)])
    region.verify(
        f"after {width} calls at once", "lock what calls share: positions, caches, parts of a block"
    )


def _worker(bench: Bench, region: Region, number: int) -> Script[None]:
    """Uses every width-th block, so that its neighbours are another one's."""
    handler, size, width = bench.handler, bench.block_size, bench.caller.width
    for turn in range(ROUNDS):
        offset, length = region.part(turn % 8 * width + number, 1)
        if bench.can.write:
            data = bytes((turn * width + number) % 255 + 1 for _ in range(size))
            yield from _calls(handler, region, offset, data, zeroes=bench.can.write_zeroes and turn % 5 == 0)
        into = ring_memory(bytes(length), [length])
        yield _read(handler, into, offset)
        expected = region.content[offset - region.offset : offset - region.offset + length]
        if iov.gather(into) != expected and not bench.setup.forgets:
            raise BreachError(
                f"of {width} calls at once, one reads at {offset} what another one wrote or read elsewhere",
                "lock what calls share: positions, caches, parts of a block",
            )


def _calls(handler: Opened, region: Region, offset: int, data: bytes, *, zeroes: bool) -> Script[None]:
    yield lambda: handler.write(ring_memory(data, [len(data)]), offset)
    if zeroes:
        data = bytes(len(data))
        yield lambda: handler.write_zeroes(offset, len(data), unmap=True)
    region.holds(offset, data)


def _read(handler: Opened, into: Buffers, offset: int) -> Call:
    return lambda: handler.read(into, offset)


def inline(bench: Bench) -> None:
    """with threads = 0 a call never waits: it runs on the ring's thread and would stop it"""
    if isinstance(bench.handler, AsyncHandler) or bench.handler.threads:
        raise NotApplicableError("only for threads = 0")
    if bench.together("read", [_waits(bench)])[0]:
        raise BreachError("reads gave up the processor to wait for something", "set threads = 4")


def _waits(bench: Bench) -> Script[object]:
    """Whether most of some reads made their thread sleep: getrusage(2) counts voluntary context switches. A
    short sleep that is over before its thread was taken off the processor is none."""
    waited = 0
    for number in range(READS):
        into = ring_memory(bytes(bench.block_size), [bench.block_size])
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        yield _read(bench.handler, into, number * bench.block_size)
        waited += resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > before
    return waited > READS // 2


def command(bench: Bench) -> None:
    """a whole command ends in a Status, NOT_HANDLED, or one of the errors a handler may raise"""
    handler = bench.handler
    if not isinstance(handler, RawHandler):
        raise NotApplicableError("only for a RawHandler")
    for cdb in CDBS:
        _command(bench, handler, Command(cdb, ring_memory(bytes(512), [512]), Nexus()))


def _command(bench: Bench, handler: RawHandler[Any], what: Command) -> None:
    answers: list[object] = []
    if bench.refuses(f"command({what.cdb.hex()})", lambda _: answers.append(handler.command(what))):
        return
    (answer,) = answers
    if not isinstance(answer, Status | NotHandled):
        raise BreachError(
            f"command({what.cdb.hex()}) returned {answer!r}",
            "return Status.GOOD, another Status, or NOT_HANDLED",
        )
