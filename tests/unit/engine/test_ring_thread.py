"""One thread for several rings, and how it looks at them before it sleeps."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from support.clock import ManualClock

from tcmu_runner.engine.serve.dispatcher import RELIEF_SECONDS
from tcmu_runner.engine.serve.ring_thread import MOST_SKIPPED, BusyPoller, RingThread
from tcmu_runner.engine.storage.blocking import MORE_CAUTION
from tcmu_runner.errors import ExhaustedError, TransportGoneError
from tcmu_runner.iov import Buffers

from .bench import Bench, Latch, Memory

READ, WRITE = "28 00 00000008 00 0001 00", "2a 00 00000008 00 0001 00"  # READ(10), WRITE(10): LBA 8
GOOD, BUSY = 0x00, 0x08  # SAM-5 table 33
NAME = "rings of a test"


class Slow(Memory):
    """Its first read is held up."""

    def __init__(self) -> None:
        super().__init__()
        self.latch = Latch()
        self.readers: list[str] = []

    def read(self, into: Buffers, offset: int) -> None:
        self.readers.append(threading.current_thread().name)
        if len(self.readers) == 1:
            self.latch.hold_up()
        super().read(into, offset)


@pytest.fixture
def thread() -> RingThread:
    return RingThread(NAME, MORE_CAUTION)


@pytest.fixture
def others(thread: RingThread) -> Iterator[list[Bench]]:
    made = [Bench(Memory(), thread=thread) for _ in range(3)]
    yield made
    for bench in made:
        bench.close()


def running() -> int:
    return sum(each.name == NAME for each in threading.enumerate())


def serves(bench: Bench) -> None:
    for byte in (b"\x01", b"\x02"):
        assert bench.run(WRITE, byte * 512).status == GOOD
        assert bench.run(READ, room=512).data == byte * 512


def test_one_thread_serves_all_and_what_leaves_is_let_alone(thread: RingThread, others: list[Bench]) -> None:
    for bench in others:
        serves(bench)
    assert running() == 1
    left = others.pop()
    left.lun.detach()
    left.submit(READ, room=512)
    for bench in others:
        serves(bench)
    assert left.producer.reap() == []


def test_it_ends_with_its_last_ring_and_comes_back_with_the_next(thread: RingThread) -> None:
    for _ in range(3):
        bench = Bench(Memory(), thread=thread)
        serves(bench)
        bench.close()
        bench.until(lambda: running() == 0)


def has_ended_one(bench: Bench) -> bool:
    return bool(bench.producer.reap())


def test_a_ring_begins_with_what_is_on_it(thread: RingThread, others: list[Bench]) -> None:
    serves(others[0])
    for bench in others:
        bench.lun.detach()
        bench.producer.submit(bytes.fromhex(READ), memoryview(b""), 512)  # with no event
        bench.attach()
        bench.until(partial(has_ended_one, bench))


def test_one_whose_device_is_gone_costs_the_others_nothing(thread: RingThread, others: list[Bench]) -> None:
    lost = Bench(Memory(), thread=thread)
    lost.transport.kick_error = TransportGoneError()
    lost.submit(READ, room=512)
    lost.until(lambda: bool(lost.broken))
    assert isinstance(lost.broken[0], TransportGoneError)
    for bench in others:
        serves(bench)
        assert not bench.broken
    lost.close()


def test_a_storage_that_holds_it_up_is_left_to_other_threads(
    thread: RingThread, others: list[Bench], caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow()
    bench = Bench(slow, thread=thread)
    stuck = bench.submit(READ, room=512)
    assert slow.latch.begun.wait(60)
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    for other in others:
        serves(other)
    assert bench.run(READ, room=512).status == GOOD
    assert stuck.status is None
    assert slow.readers[0] == NAME != slow.readers[1]
    slow.latch.open.set()
    bench.wait(stuck)
    serves(bench)
    assert running() == 1
    bench.close()
    caplog.clear()


def no_more(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")  # what Python makes of pthread_create's EAGAIN


def test_without_a_thread_a_ring_is_refused_and_can_go(
    thread: RingThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(ExhaustedError, match="cannot start the thread"):
            Bench(Memory(), thread=thread)
    bench = Bench(Memory(), thread=thread)
    serves(bench)
    bench.close()


def test_a_thread_that_cannot_be_relieved_goes_on(
    thread: RingThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(Memory(), thread=thread)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(ExhaustedError):
            thread.relieve()
    serves(bench)
    assert running() == 1
    bench.close()


def test_a_command_that_no_thread_takes_breaks_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is of no use to it; nothing waits for the command when the LUN is closed."""

    class Elsewhere(Memory):
        threads = 1  # one, and not the ring's

    bench = Bench(Elsewhere())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        bench.submit(READ, room=512)
        bench.until(lambda: bool(bench.broken))
    assert isinstance(bench.broken[0], ExhaustedError)
    bench.close()


def test_work_in_the_background_that_cannot_begin_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Memory())
    serves(bench)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        # FORMAT UNIT with a parameter list whose IMMED is set (SBC-4 5.4.2.2): it goes on behind its status
        assert bench.run("04 10 00 00 00 00", bytes.fromhex("00020000")).status == BUSY
    assert "cannot start the thread 'background'" in caplog.text
    caplog.clear()
    bench.close()


SECONDS = 1e-3  # that a look of BusyPoller takes


class Ring:
    """Counts the looks, of which each takes a tenth of SECONDS; has something from look number `due` on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.looks, self.due = 0, 0

    def pending(self) -> bool:
        self.looks += 1
        self.clock.advance(SECONDS / 10)
        return 0 < self.due <= self.looks


def never() -> bool:
    return False


def test_it_sees_what_comes_while_it_looks() -> None:
    ring = Ring()
    ring.due = 3
    assert BusyPoller(ring.pending, SECONDS, ring.clock).sees(never)
    assert ring.looks == 3


def test_on_a_single_processor_others_run_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, looks = Ring(), []
    ring.due = 3
    monkeypatch.setattr(os, "sched_yield", lambda: looks.append(ring.looks))
    assert BusyPoller(ring.pending, SECONDS, ring.clock, yields=True).sees(never)
    assert looks == [1, 2]


def test_after_looks_in_vain_it_sleeps_more_and_more_often_at_once() -> None:
    """One may happen; from then on each costs 1, 3, 7, ... turns without a look."""
    ring = Ring()
    busy_poller = BusyPoller(ring.pending, SECONDS, ring.clock)
    looked = []
    for _ in range(200):
        before = ring.looks
        assert not busy_poller.sees(never)
        looked.append(ring.looks > before)
    assert looked[:14] == [True, True, False, True, False, False, False, True, *[False] * 6]
    assert sum(looked[-2 * (MOST_SKIPPED + 1) :]) == 2


def test_one_that_found_something_makes_up_for_all_before() -> None:
    ring = Ring()
    busy_poller = BusyPoller(ring.pending, SECONDS, ring.clock)
    for _ in range(200):
        busy_poller.sees(never)
    ring.due = 1
    while not busy_poller.sees(never):
        pass
    ring.due = 0
    looks = ring.looks
    assert not busy_poller.sees(never)
    assert ring.looks > looks
    looks = ring.looks
    assert not busy_poller.sees(never)
    assert ring.looks > looks


def test_it_does_not_look_while_threads_need_the_interpreter() -> None:
    ring = Ring()
    ring.due = 1
    assert not BusyPoller(ring.pending, SECONDS, ring.clock).sees(lambda: True)
    assert not ring.looks
