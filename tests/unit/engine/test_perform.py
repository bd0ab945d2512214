"""Plans carried out on handlers, with filters between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tcmu_runner import Filter, ScsiError
from tcmu_runner.engine.storage.background import perform_on
from tcmu_runner.engine.storage.on_loop import carry_out_async, through_async
from tcmu_runner.engine.storage.perform import OperationError, Storage, carry_out, through
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import (
    CompareAndWrite,
    Flush,
    Operation,
    Plan,
    Read,
    Steps,
    Unmap,
    Write,
    WriteSame,
    WriteZeroes,
)
from tcmu_runner.scsi.sense import WRITE_PROTECTED
from tcmu_runner.scsi.unit import Capabilities

from .bench import Bench, Memory

WRITE_LBA_8 = "2a 00 00000008 00 0001 00"
Run = Callable[[list[Filter[None]], Plan, Callable[[Operation], None]], None]


def run_blocking(filters: list[Filter[None]], plan: Plan, perform: Callable[[Operation], None]) -> None:
    carry_out(plan, through(filters, perform))


def run_on_loop(filters: list[Filter[None]], plan: Plan, perform: Callable[[Operation], None]) -> None:
    async def perform_async(operation: Operation) -> None:
        await asyncio.sleep(0)
        perform(operation)

    asyncio.run(carry_out_async(plan, through_async(filters, perform_async)))


both = pytest.mark.parametrize("run", [run_blocking, run_on_loop])


class Shift(Filter[None]):
    """Moves everything by 4096 bytes."""

    def handle(self, operation: Operation) -> Steps:
        assert isinstance(operation, Read | Write)
        yield replace(operation, offset=operation.offset + 4096)


class Twice(Filter[None]):
    """Tries a failed operation once more."""

    def handle(self, operation: Operation) -> Steps:
        try:
            yield operation
        except OSError:
            yield operation


class ReadOnly(Filter[None]):
    def capabilities(self, below: Capabilities) -> Capabilities:
        return replace(below, write=False)

    def handle(self, operation: Operation) -> Steps:
        if not isinstance(operation, Read):
            raise ScsiError(WRITE_PROTECTED)
        yield operation


@both
def test_filters_work_from_the_top_down(run: Run) -> None:
    done: list[Operation] = []
    run([Twice(), Shift(), Shift()], Read(0, []), done.append)
    assert done == [Read(8192, [])]


@both
def test_a_failure_is_offered_to_the_filter_above(run: Run) -> None:
    tries: list[Operation] = []

    def fail_once(operation: Operation) -> None:
        tries.append(operation)
        if len(tries) == 1:
            raise OSError(5, "Input/output error")

    run([Shift(), Twice()], two_writes(), fail_once)
    assert tries == [Write(4096, []), Write(4096, []), Write(8192, [])]


def two_writes() -> Steps:
    yield Write(0, [])
    yield Write(4096, [])


@both
def test_a_failure_that_nobody_answers_names_its_operation(run: Run) -> None:
    def fail(_operation: Operation) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OperationError) as caught:
        run([Shift()], Read(0, []), fail)
    assert isinstance(caught.value.error, OSError)
    assert caught.value.operation == Read(0, [])


@both
def test_a_filter_may_refuse(run: Run) -> None:
    done: list[Operation] = []
    with pytest.raises(OperationError) as caught:
        run([ReadOnly()], Write(0, []), done.append)
    assert isinstance(caught.value.error, ScsiError)
    assert not done


def test_a_unit_offers_what_its_filters_leave() -> None:
    bench = Bench(Memory(), filters=[ReadOnly()])
    ticket = bench.run(WRITE_LBA_8, bytes(512))
    bench.close()
    assert (ticket.status, ticket.sense[2], ticket.sense[12]) == (0x02, 0x07, 0x27)  # DATA PROTECT


def test_operations_reach_the_methods_that_bear_their_name() -> None:
    calls: list[tuple[object, ...]] = []

    class Recorder(Memory):
        def flush(self) -> None:
            calls.append(("flush",))

        def write(self, data: Buffers, offset: int) -> None:
            calls.append(("write", offset))

        def unmap(self, offset: int, length: int) -> None:
            calls.append(("unmap", offset, length))

        def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
            calls.append(("write_zeroes", offset, length, unmap))

        def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
            calls.append(("compare_and_write", offset))
            return 7

        def write_same(self, offset: int, length: int, block: bytes) -> None:
            calls.append(("write_same", offset, length, block))

    handler = Recorder()
    storage = Storage(handler, handler.capabilities(), perform_on)
    for operation in (
        Write(0, [], fua=True),
        Unmap(512, 1024),
        WriteZeroes(0, 512, unmap=True, fua=True),
        Flush(),
        both := CompareAndWrite(512, [], []),
        WriteSame(0, 1024, b"x" * 512, fua=True),
    ):
        storage.perform(operation)
    assert calls == [
        ("write", 0), ("flush",), ("unmap", 512, 1024),
        ("write_zeroes", 0, 512, True), ("flush",), ("flush",),
        ("compare_and_write", 512), ("write_same", 0, 1024, b"x" * 512), ("flush",),
    ]  # fmt: skip
    assert both.mismatch == 7
