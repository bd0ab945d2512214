import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tcmu_runner.guardian.watchdog import Watchdog

from .timeline import Timeline

SECONDS = 10.0
LONG = 6 * SECONDS


class Bench:
    """The daemon's end, and the pipe that its processes hold."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end_of_all, self.life = os.pipe()
        self.timeline = Timeline()
        self.watchdog = self.another()
        self.watchdog.beat()

    def another(self) -> Watchdog:
        return Watchdog(self.theirs, self.end_of_all, SECONDS, self.timeline.poll)

    def later(self, step: Callable[[], object]) -> None:
        """After a time that is long for who waits for SECONDS."""
        self.timeline.after(LONG, step)

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
    assert bench.timeline.now == SECONDS
    bench.later(bench.speak)
    bench.hear()
    assert not bench.watchdog.wait()


def test_a_daemon_that_starts_may_take_its_time(bench: Bench) -> None:
    """The kernel waits for no answer before there is a listener for its events."""
    watchdog = bench.another()
    bench.later(bench.speak)
    assert watchdog.wait()


def test_a_machine_that_stood_still_is_no_stall(bench: Bench) -> None:
    """Its time is over when it goes on, and the supervisor, which stood still, too, has its turn then."""
    bench.timeline.after(SECONDS * 3 / 4, bench.speak)
    bench.timeline.stand_still(SECONDS / 2)
    bench.hear()


def test_after_the_supervisor_only_the_end_of_the_last_worker_counts(bench: Bench) -> None:
    """What a worker writes to the pipe does not."""
    os.write(bench.life, b"bye")
    bench.watchdog.await_workers()
    assert not bench.watchdog.wait()
    bench.life, life = os.dup(bench.end_of_all), bench.life  # for `close`
    bench.later(lambda: os.close(life))
    assert bench.watchdog.wait()
