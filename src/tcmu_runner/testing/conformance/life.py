"""Checks of a handler's life: opening again, what remains, other sizes, and a storage that fails."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from pathlib import Path

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import AsyncHandler, Handler
from tcmu_runner.testing.conformance.bench import Bench, Region, ring_memory
from tcmu_runner.testing.conformance.callers import Lane, Script, results
from tcmu_runner.testing.conformance.violation import BreachError, NotApplicableError, explained

CYCLES = 6
SETTLING = 2.0  # seconds
PAUSE = 0.01  # seconds between two looks
LEAST_BLOCKS = 512


def opening(bench: Bench) -> None:
    """open() returns a handler"""
    if bench.size % bench.block_size or bench.size // bench.block_size < LEAST_BLOCKS:
        raise BreachError(
            f"the check needs {LEAST_BLOCKS} whole blocks, not {bench.size} bytes by {bench.block_size}",
            "give check_handler another size",
        )
    with explained("open"):
        bench.open()


def closing(bench: Bench) -> None:
    """close() returns"""
    with explained("close"):
        bench.close()


def reopening(bench: Bench) -> None:
    """it can be closed and opened again, and leaves no file descriptor and no thread behind"""
    bench.reopen()
    before = _held()
    for _ in range(CYCLES):
        bench.reopen()
    if leak := _leak_that_stays(before):
        raise BreachError(
            f"opened and closed {CYCLES} times, it holds {leak}", "let close() end whatever open() began"
        )


def _leak_that_stays(before: tuple[int, int], clock: Clock = MACHINE) -> str:
    """A thread that ends may take a moment; what is there after SETTLING is a leak."""
    deadline = clock.monotonic() + SETTLING
    while (leak := _leak(before)) and clock.monotonic() < deadline:
        clock.sleep(PAUSE)
    return leak


def _leak(before: tuple[int, int]) -> str:
    """What has grown with each cycle."""
    for what, one, other in zip(("file descriptors", "threads"), before, _held(), strict=True):
        if other - one >= CYCLES:
            return f"{other - one} more {what}"
    return ""


def _held() -> tuple[int, int]:
    gc.collect()
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith(Lane.NAME)]
    return len(list(Path("/proc/self/fd").iterdir())), len(threads)


def persistence(bench: Bench) -> None:
    """what was written and flushed is there when it is opened again"""
    if not bench.setup.persistent:
        raise NotApplicableError("on request only: persistent=True")
    region = bench.region(16)
    if bench.can.flush:
        bench.perform("flush", lambda handler: handler.flush())
    bench.reopen()
    region.verify(
        "after it was flushed, closed and opened again",
        "store all before flush() returns, clear nothing in open()",
    )


def durability(bench: Bench) -> None:
    """what was flushed is there after its process was killed, without a close()"""
    victim = bench.victim
    if victim is None:
        raise NotApplicableError("on request only: persistent=True")
    bench.need("write", "flush")
    with explained("close"):
        bench.close()
    failure = victim.write_flush_and_die()
    with explained("open, after the process that had it was killed,"):
        bench.open()
    if failure:
        raise BreachError(f"in a process of its own: {failure}", "the kit forks one, which opens it anew")
    bench.expect(
        victim.offset, victim.content, "after it was flushed and its process killed",
        "store all before flush() returns, and not in close()",
    )  # fmt: skip


def resize(bench: Bench) -> None:
    """what is stored stays, calls go on meanwhile, new bytes can be used; or it is refused with OSError"""
    base = Handler if isinstance(bench.handler, Handler) else AsyncHandler
    if type(bench.handler).resize is base.resize:
        raise NotApplicableError("the handler offers no resize()")
    region = bench.region(16)
    blocks = bench.size // bench.block_size
    for size in (
        (blocks + 8) * bench.block_size,
        2 * bench.size,
        bench.size - 8 * bench.block_size,
        bench.size,
    ):
        if _resized_in_use(bench, region, size):
            _ends_at(bench, size)
        region.verify(f"after resize({size})", "keep what is stored, whatever becomes of the size")


def _resized_in_use(bench: Bench, region: Region, size: int) -> bool:
    """Resizes while reads and writes go on: initiators do not pause for it. False when it was refused."""
    stop, traffic = threading.Event(), Lane()
    use = traffic.submit(lambda: bench.together(f"use during resize({size})", [_use(bench, region, stop)]))
    try:
        with explained(f"resize({size})"), suppress(OSError):
            bench.elsewhere(lambda: bench.handler.resize(size))
            return True
    finally:
        stop.set()
        traffic.close()
        results([use], bench.setup.patience)
    return False


def _use(bench: Bench, region: Region, stop: threading.Event) -> Script[None]:
    handler, (offset, length) = bench.handler, region.part(0, 4)
    pieces, into = ring_memory(region.content[:length], [length]), ring_memory(bytes(length), [length])
    while not stop.is_set():
        yield lambda: handler.read(into, offset)
        if bench.can.write:
            yield lambda: handler.write(pieces, offset)


def _ends_at(bench: Bench, size: int) -> None:
    """The last block of the new size is there."""
    offset = size - bench.block_size
    bench.read(offset, [bench.block_size])
    if bench.can.write:
        data = bench.random.randbytes(bench.block_size)
        bench.write(offset, data)
        bench.expect(offset, data, f"after resize({size}) and a write to its last block", "serve all of it")


def errors(bench: Bench) -> None:
    """when the storage fails, a call raises OSError or ScsiError and does not say that it is done"""
    if bench.setup.open_failing is None:
        raise NotApplicableError("on request only: open_failing=lambda: ...")
    bench.close()
    try:
        bench.open(bench.setup.open_failing)
    except (OSError, ConfigError):
        bench.open()
        return  # refused at once, which is as good
    try:
        _fails(bench)
    finally:
        with suppress(OSError):
            bench.close()
        bench.open()


def _fails(bench: Bench) -> None:
    memory = ring_memory(bytes(bench.block_size), [bench.block_size])
    way_out = "let the error out: what is said to be done is never tried again"
    if not bench.refuses("read", lambda handler: handler.read(memory, 0)):
        raise BreachError("read returned although the storage fails", way_out)
    if not bench.can.write or bench.refuses("write", lambda handler: handler.write(memory, 0)):
        return
    if not (bench.can.flush and bench.refuses("flush", lambda handler: handler.flush())):
        raise BreachError("neither write nor flush failed although the storage does", way_out)
