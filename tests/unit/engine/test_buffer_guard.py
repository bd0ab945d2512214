"""What a handler or filter leaves undone never comes out as GOOD with other data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcmu_runner import AsyncHandler, Filter
from tcmu_runner.engine.storage.buffer_guard import async_calls, calls, clearing, is_ours
from tcmu_runner.filters.log import Log
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Operation, Read, Steps

from .bench import Bench, Memory

GOOD, CHECK_CONDITION = 0x00, 0x02
INTERNAL_TARGET_FAILURE = (0x04, 0x44, 0x00)  # SPC-5 annex F
SECRET = b"\xa5" * 4096
WRITE = "2a 00 00000100 00 0008 00"
PATHS = {
    "straight": ("28 00 00000000 00 0008 00", 4096),
    "general": ("28 08 00000000 00 0008 00", 4096),  # FUA
    "verified": ("28 00 00000000 00 0008 00", 4095),  # buffers shorter than the blocks
}
both_paths = pytest.mark.parametrize("path", PATHS)


class Half(Memory):
    """Fills the first half of each buffer."""

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[: len(buffer) // 2] = b"\x01" * (len(buffer) // 2)


class HalfAsync(AsyncHandler[str]):
    subtype = "test"

    async def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[: len(buffer) // 2] = b"\x01" * (len(buffer) // 2)

    async def write(self, data: Buffers, offset: int) -> None:
        """Forgets it."""


class Answers(Memory):
    """Reads and writes as it should, and returns what a test wants."""

    answer: Callable[[int], object]

    def read(self, into: Buffers, offset: int) -> None:
        super().read(into, offset)
        return self.answer(sum(map(len, into)))  # type: ignore[return-value]

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data, offset)
        return self.answer(sum(map(len, data)))  # type: ignore[return-value]


def after_a_secret(bench: Bench, path: str) -> bytes:
    """What an initiator reads into memory of the ring that another's data were in."""
    assert [bench.run(WRITE, SECRET).status for _ in range(3)] == [GOOD] * 3
    cdb, room = PATHS[path]
    ticket = bench.run(cdb, room=room)
    assert ticket.status == GOOD
    bench.close()
    return bytes(ticket.data)


@both_paths
@pytest.mark.parametrize("handler", [Half, HalfAsync])
def test_what_a_handler_does_not_fill_is_zeroed(handler: type[Half | HalfAsync], path: str) -> None:
    found = after_a_secret(Bench(handler()), path)
    assert found == (b"\x01" * 2048 + bytes(2048))[: len(found)] or path == "verified"
    assert b"\xa5" not in found


class Passing(Filter[None]):
    """Passes all on."""

    def handle(self, operation: Operation) -> Steps:
        yield operation


class Ours(Passing):
    """Counts as one of this project."""

    __module__ = "tcmu_runner.filters"


class Lazy(Filter[None]):
    """Does no Read."""

    def handle(self, operation: Operation) -> Steps:
        if not isinstance(operation, Read):
            yield operation


@both_paths
@pytest.mark.parametrize("above", [[], [Passing], [Ours], [Passing, Ours], [Ours, Passing]])
def test_what_a_filter_does_not_fill_is_zeroed(above: list[type[Filter[None]]], path: str) -> None:
    filters = [*(layer() for layer in above), Lazy()]
    assert after_a_secret(Bench(Memory(), filters=filters), path) == bytes(PATHS[path][1])


def test_filters_in_a_row_have_buffers_zeroed_once() -> None:
    passing, lazy, ours, last = Passing(), Lazy(), Ours(), Passing()
    found = list(clearing([passing, lazy, ours, last]))
    assert found == [(last, True), (ours, False), (lazy, False), (passing, True)]


def test_what_an_asynchronous_stack_s_filter_does_not_fill_is_zeroed() -> None:
    assert after_a_secret(Bench(HalfAsync(), filters=[Lazy()]), "straight") == bytes(4096)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (bytes, "returned bytes"),
        (lambda length: [b"x"], "returned list"),
        (lambda length: length // 2, "returned 2048 for 4096 bytes"),
        (lambda length: -5, "returned -5 for 4096 bytes"),
    ],
)
@pytest.mark.parametrize("cdb", ["28 00 00000000 00 0008 00", "28 08 00000000 00 0008 00", WRITE])
def test_an_answer_that_says_otherwise_fails_the_command(
    answer: Callable[[int], object], said: str, cdb: str, caplog: pytest.LogCaptureFixture
) -> None:
    Answers.answer = staticmethod(answer)
    bench = Bench(Answers())
    writes = cdb == WRITE
    ticket = bench.run(cdb, SECRET if writes else b"", room=0 if writes else 4096)
    bench.close()
    assert ticket.status == CHECK_CONDITION
    assert (ticket.sense[2], ticket.sense[12], ticket.sense[13]) == INTERNAL_TARGET_FAILURE
    assert said in caplog.text
    assert "return nothing" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("answer", [lambda length: length, lambda length: 0, lambda length: True])
def test_answers_that_mean_success(answer: Callable[[int], object]) -> None:
    Answers.answer = staticmethod(answer)
    bench = Bench(Answers())
    assert bench.run(WRITE, SECRET).status == GOOD
    assert bench.run("28 00 00000100 00 0008 00", room=4096).data == SECRET
    bench.close()


def test_a_coroutine_in_a_blocking_handler(caplog: pytest.LogCaptureFixture) -> None:
    class Confused(Memory):
        async def read(self, into: Buffers, offset: int) -> None:  # type: ignore[override]
            """Nobody awaits it."""

    bench = Bench(Confused())
    assert bench.run("28 00 00000000 00 0008 00", room=4096).status == CHECK_CONDITION
    bench.close()
    assert "make the class an AsyncHandler" in caplog.text
    caplog.clear()


def test_an_asynchronous_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Short(HalfAsync):
        async def read(self, into: Buffers, offset: int) -> None:
            return 512  # type: ignore[return-value]

        async def write(self, data: Buffers, offset: int) -> None:
            return b""  # type: ignore[return-value]

    bench = Bench(Short())
    assert bench.run("28 00 00000000 00 0008 00", room=4096).status == CHECK_CONDITION
    assert bench.run(WRITE, SECRET).status == CHECK_CONDITION
    bench.close()
    assert "returned 512 for 4096 bytes" in caplog.text
    assert "returned bytes" in caplog.text
    caplog.clear()


def test_what_is_ours_is_called_as_it_is() -> None:
    """It costs the benchmark nothing; their own tests prove it (the conformance kit)."""
    assert is_ours(RamHandler.__new__(RamHandler))
    assert is_ours(Log.__new__(Log))

    class Derived(RamHandler):
        pass

    assert not is_ours(Derived.__new__(Derived))
    ram = RamHandler.__new__(RamHandler)
    assert calls(ram) == (ram.read, ram.write, ram.write_durable)
    assert all(call.__name__ == "checked" for call in async_calls(HalfAsync()))
