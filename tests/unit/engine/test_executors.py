"""A command of many operations gives way to others, on whatever thread it runs."""

from __future__ import annotations

import threading

import pytest

from tcmu_runner.engine.storage import executors
from tcmu_runner.iov import Buffers
from tcmu_runner.ring.producer import Ticket
from tcmu_runner.scsi.commands import provisioning, read_write

from .bench import Bench, Latch, Memory

GOOD, CHECK_CONDITION = 0x00, 0x02
BLOCK = bytes(range(256)) * 2
WRITE_SAME = "93 00 0000000000000000 00000400 00 00"  # 512 KiB
READ = "28 00 00000600 00 0008 00"  # beyond them
VERIFY = "8f 00 0000000000000000 00000400 00 00"
LATE = 3 * executors.AT_ONCE  # an operation of the third part


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "CHUNK", 4096)
    monkeypatch.setattr(read_write, "CHUNK", 4096)


class Held(Memory):
    """Its operation LATE waits for the test. threads: as the test sets it."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.latch, self.others_wait = Latch(), threading.Event()
        self.operations = 0
        type(self).threads = threads

    def count(self) -> None:
        self.operations += 1
        if self.operations == executors.AT_ONCE and not self.others_wait.wait(20):
            raise AssertionError("no other command came")
        if self.operations == LATE:
            self.latch.hold_up()

    def write(self, data: Buffers, offset: int) -> None:
        self.count()
        super().write(data, offset)

    def read(self, into: Buffers, offset: int) -> None:
        if offset < 1024 * 512:
            self.count()
        super().read(into, offset)


def both(bench: Bench, handler: Held, cdb: str, data: bytes) -> tuple[Ticket, Ticket]:
    """A long command, and one that comes right behind it."""
    long = bench.producer.submit(bytes.fromhex(cdb), memoryview(data), 0)
    short = bench.producer.submit(bytes.fromhex(READ), memoryview(b""), 4096)
    bench.submit_event()
    if handler.threads:
        assert bench.lun._dispatcher is not None
        executor = bench.lun._dispatcher.executor
        assert isinstance(executor, executors.ThreadExecutor)
        bench.until(lambda: executor._jobs.qsize() == 1)
    handler.others_wait.set()
    return long, short


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize(("cdb", "data"), [(WRITE_SAME, BLOCK), (VERIFY, b"")], ids=["write same", "verify"])
def test_a_long_command_does_not_hold_up_the_next(threads: int, cdb: str, data: bytes) -> None:
    handler = Held(threads)
    bench = Bench(handler)
    long, short = both(bench, handler, cdb, data)
    bench.wait(short)
    assert short.status == GOOD
    assert long.status is None
    handler.latch.open.set()
    bench.wait(long)
    assert long.status == GOOD
    assert handler.operations == 128
    if data:
        assert bytes(handler.disk[: 1024 * 512]) == BLOCK * 1024
    bench.close()


def test_two_long_commands_go_on_in_turn() -> None:
    order: list[int] = []

    class Noted(Memory):
        threads = 0

        def write(self, data: Buffers, offset: int) -> None:
            order.append(offset * 2 // len(self.disk))

    bench = Bench(Noted())
    tickets = [
        bench.producer.submit(bytes.fromhex(cdb), memoryview(BLOCK), 0)
        for cdb in (WRITE_SAME, "93 00 0000000000000400 00000400 00 00")
    ]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert order == ([0] * executors.AT_ONCE + [1] * executors.AT_ONCE) * (128 // executors.AT_ONCE)


def test_a_failure_in_a_later_part_ends_the_command(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Held):
        def count(self) -> None:
            self.operations += 1
            if self.operations == LATE:
                raise OSError(5, "Input/output error")

    handler = Failing(0)
    bench = Bench(handler)
    assert bench.run(WRITE_SAME, BLOCK).status == CHECK_CONDITION
    bench.close()
    assert handler.operations == LATE
    caplog.clear()


def test_a_lun_that_is_detached_ends_its_long_commands() -> None:
    handler = Held(0)
    bench = Bench(handler)
    long, _ = both(bench, handler, WRITE_SAME, BLOCK)
    assert handler.latch.begun.wait(20)
    closing = threading.Thread(target=bench.lun.detach)
    closing.start()
    handler.latch.open.set()
    closing.join(20)
    assert not closing.is_alive()
    assert handler.operations == 128
    bench.wait(long)
    assert long.status == GOOD
