import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tcmu_runner.guardian.watchdog import Watchdog

SECONDS = 0.05
LONG = 6 * SECONDS


class Bench:
    """The daemon's end, and the pipe that its processes hold."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end_of_all, self.life = os.pipe()
        self.watchdog = Watchdog(self.theirs, self.end_of_all, SECONDS)
        self.watchdog.beat()

    def later(self, step: Callable[[], object]) -> threading.Timer:
        """After a time that is long for who waits for SECONDS."""
        timer = threading.Timer(LONG, step)
        timer.start()
        return timer

    def speak(self) -> None:
        self.ours.send(b"x")

    def hear(self) -> None:
        assert self.watchdog.wait()
        self.theirs.recv(64)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        for descriptor in (self.end_of_all, self.life):
            os.close(descriptor)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(Bench()) as bench:
        yield bench


def test_silence_is_a_stall_and_told_once(bench: Bench) -> None:
    assert not bench.watchdog.wait()
    timer = bench.later(bench.speak)
    bench.hear()
    timer.join()
    assert not bench.watchdog.wait()


def test_a_daemon_that_starts_may_take_its_time(bench: Bench) -> None:
    """The kernel waits for no answer before there is a listener for its events."""
    watchdog = Watchdog(bench.theirs, bench.end_of_all, SECONDS)
    timer = bench.later(bench.speak)
    assert watchdog.wait()
    timer.join()


def test_a_machine_that_stood_still_is_no_stall(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over when it goes on, and the supervisor has had no turn yet."""

    class Resumed:
        def __init__(self) -> None:
            self._found: list[list[tuple[int, int]]] = [[], [(bench.theirs.fileno(), select.POLLIN)]]

        def register(self, _descriptor: int, _events: int) -> None:
            return

        def poll(self, _milliseconds: float | None) -> list[tuple[int, int]]:
            return self._found.pop(0)

    monkeypatch.setattr(select, "poll", Resumed)
    assert bench.watchdog.wait()


def test_after_the_supervisor_only_the_end_of_the_last_worker_counts(bench: Bench) -> None:
    """What a worker writes to the pipe does not."""
    os.write(bench.life, b"bye")
    bench.watchdog.await_workers()
    assert not bench.watchdog.wait()
    bench.life, life = os.dup(bench.end_of_all), bench.life  # for `close`
    timer = bench.later(lambda: os.close(life))
    assert bench.watchdog.wait()
    timer.join()
