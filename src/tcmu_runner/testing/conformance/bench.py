"""The handler under test, and what the checks do with it: open, read, write, compare."""

from __future__ import annotations

import inspect
import mmap
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tcmu_runner import iov
from tcmu_runner.handler.api import AsyncHandler, Handler
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.conformance.callers import (
    Caller,
    Lane,
    Loop,
    Script,
    Threads,
    results,
)
from tcmu_runner.testing.conformance.violation import BreachError, NotApplicableError, explained

if TYPE_CHECKING:
    from tcmu_runner.testing.conformance.victim import Victim

Opened = Handler[Any] | AsyncHandler[Any]
Open = Callable[[], object]  # returns an Opened, or an awaitable of one

UNTOUCHED = 0xA5  # what the buffers of a read hold before it


@dataclass(frozen=True, slots=True)
class Setup:
    """What the author says of the handler; see check_handler."""

    open_handler: Open
    size: int
    block_size: int
    persistent: bool = False
    forgets: bool = False
    open_failing: Open | None = None
    patience: float = 60.0


class Bench:
    """One handler, open between `open` and `close`. can: its capabilities after `open`. victim: a process
    that can be killed."""

    handler: Opened
    can: Capabilities
    caller: Caller
    title = "handler"
    is_open = False
    hangs = False

    def __init__(self, setup: Setup, victim: Victim | None = None) -> None:
        self.setup = setup
        self.victim = victim
        self.size = setup.size
        self.block_size = setup.block_size
        self.random = random.Random(0)  # every run is the same
        self._elsewhere = Lane()
        self._loop: Loop | None = None

    # -- life -----------------------------------------------------------------------------------------

    def open(self, open_handler: Open | None = None) -> None:
        """Raises what opening raises; BreachError when it brings about no handler."""
        opened = self.elsewhere(open_handler or self.setup.open_handler)
        if not isinstance(opened, Handler | AsyncHandler):
            raise BreachError(f"opening returned {opened!r}", "return the handler's object from open()")
        self.handler, self.is_open = opened, True
        self.title = f"{getattr(opened, 'subtype', '?')} ({type(opened).__name__})"
        if isinstance(opened, AsyncHandler):
            self.caller = self._asyncio()
        else:
            self.caller = Threads(max(0, opened.threads))
        self.can = opened.capabilities()
        if not isinstance(self.can, Capabilities):
            raise BreachError("capabilities() returns none", "return Capabilities(write=True, ...)")

    def close(self) -> None:
        """Raises what closing raises."""
        self.is_open = False
        if self.caller is not self._loop:
            self.caller.close()
        self.elsewhere(self.handler.close)

    def reopen(self) -> None:
        with explained("close"):
            self.close()
        with explained("open"):
            self.open()

    def end(self) -> None:
        """Lets go of the threads; one that hangs in a call stays."""
        if self.is_open and self.caller is not self._loop:
            self.caller.close()
        if self._loop is not None:
            self._loop.close()
        self._elsewhere.close()

    def elsewhere(self, call: Callable[[], object]) -> object:
        """Makes a call on another thread than the handler's own, as the engine opens, closes and resizes."""
        (value,) = results([self._elsewhere.submit(call)], self.setup.patience)
        if inspect.isawaitable(value):
            (value,) = self._asyncio().run(_once(lambda: value), patience=self.setup.patience)
        return value

    def _asyncio(self) -> Loop:
        self._loop = self._loop or Loop()
        return self._loop

    # -- calls ----------------------------------------------------------------------------------------

    def need(self, *names: str) -> None:
        """Ends a check of something that the handler does not offer."""
        for name in names:
            if not getattr(self.can, name):
                raise NotApplicableError(f"the handler offers no {name}()")

    def perform(
        self, what: str, call: Callable[[Opened], object], then: Callable[[object], object] | None = None
    ) -> object:
        """One call as the engine makes it; `then` takes its result on the same thread."""
        handler = self.handler
        return self.together(what, [_once(lambda: call(handler), then)])[0]

    def together(self, what: str, scripts: Sequence[Script[object]]) -> list[object]:
        """Several scripts at once, at most as many as the handler allows."""
        with explained(what):
            return self.caller.run(*scripts, patience=self.setup.patience)

    def refuses(self, what: str, call: Callable[[Opened], object]) -> bool:
        """Whether the call raised one of the errors that a handler may raise; any other one is a breach."""
        with explained(what), suppress(OSError, ScsiError, ScsiStatusError):
            self.caller.run(_once(lambda: call(self.handler)), patience=self.setup.patience)
            return False
        return True

    def read(self, offset: int, lengths: Sequence[int], untouched: int = UNTOUCHED) -> bytes:
        """Into buffers of these lengths."""
        into = ring_memory(bytes((untouched,)) * sum(lengths), lengths)
        what = f"read of {_said(lengths)} at {offset}"
        self._wants_nothing(self.perform(what, lambda handler: handler.read(list(into), offset)), what)
        return iov.gather(into)

    def write(self, offset: int, data: bytes | bytearray, lengths: Sequence[int] | None = None) -> None:
        """From buffers of these lengths; from one by default."""
        pieces = ring_memory(data, lengths or [len(data)])
        what = f"write of {_said(lengths or [len(data)])} at {offset}"
        self._wants_nothing(self.perform(what, lambda handler: handler.write(list(pieces), offset)), what)

    @staticmethod
    def _wants_nothing(answer: object, what: str) -> None:
        if answer is not None:
            raise BreachError(
                f"{what} returned {type(answer).__name__}", "data travels in the buffers only, return nothing"
            )

    def expect(self, offset: int, data: bytes | bytearray, when: str, way_out: str) -> None:
        """Reads and compares; a handler that forgets may read as anything."""
        found = self.read(offset, [len(data)])
        at = None if self.setup.forgets else iov.first_difference(found, bytes(data))
        if at is not None:
            raise BreachError(
                f"{when}, byte {offset + at} reads {found[at]:#04x} and not {data[at]:#04x}", way_out
            )

    def region(self, blocks: int) -> Region:
        """The middle of the disk, filled with random bytes where it can be written."""
        return Region(self, (self.size // self.block_size - blocks) // 2 * self.block_size, blocks)


class Region:
    """A run of blocks and what they should hold. Offsets are of the disk."""

    def __init__(self, bench: Bench, offset: int, blocks: int) -> None:
        self.bench = bench
        self.offset = offset
        length = blocks * bench.block_size
        if bench.can.write:
            self.content = bytearray(bench.random.randbytes(length))
            bench.write(offset, self.content)
        else:
            self.content = bytearray(bench.read(offset, [length]))

    def part(self, block: int, count: int) -> tuple[int, int]:
        """(offset, length) in bytes of some of its blocks."""
        return self.offset + block * self.bench.block_size, count * self.bench.block_size

    def holds(self, offset: int, data: bytes) -> None:
        """Notes what has been stored."""
        self.content[offset - self.offset : offset - self.offset + len(data)] = data

    def verify(self, when: str, way_out: str) -> None:
        self.bench.expect(self.offset, self.content, when, way_out)


def ring_memory(data: bytes | bytearray, lengths: Sequence[int]) -> Buffers:
    """Buffers such as the ring's: views of memory shared with others, the first one on a page boundary."""
    memory = memoryview(mmap.mmap(-1, len(data)))
    memory[:] = data
    pieces, at = [], 0
    for length in lengths:
        pieces.append(memory[at : at + length])
        at += length
    return pieces


def _once(call: Callable[[], object], then: Callable[[object], object] | None = None) -> Script[object]:
    value = yield call
    return then(value) if then else value


def _said(lengths: Sequence[int]) -> str:
    if len(lengths) == 1:
        return f"{lengths[0]} bytes"
    some = ", ".join(map(str, lengths[:4])) + (", ..." if len(lengths) > 4 else "")
    return f"{sum(lengths)} bytes in {len(lengths)} buffers ({some})"
