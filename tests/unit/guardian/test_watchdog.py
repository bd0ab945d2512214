import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tcmu_runner.guardian.watchdog import Watchdog

from .timeline import Timeline

SECONDS = 10.0
LONG = 6 * SECONDS


class Bench:
    """The daemon's end, and a pipe as the socket of which the kernel's events are read."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.events, self._kernel = os.pipe()
        self.duplicate = os.dup(self.events)
        self.end_of_all, self.life = os.pipe()
        self.timeline = Timeline()
        self.watchdog = self.another()
        self.watchdog.hear(self.duplicate)

    def another(self) -> Watchdog:
        return Watchdog(self.theirs, self.end_of_all, SECONDS, self.timeline.poll)

    def kernel_speaks(self) -> None:
        os.write(self._kernel, b"event")

    def later(self, step: Callable[[], object]) -> None:
        """After a time that is long for who waits for SECONDS."""
        self.timeline.after(LONG, step)

    def speak(self) -> None:
        self.ours.send(b"x")

    def hear(self) -> None:
        assert self.watchdog.wait()
        self.theirs.recv(64)

    def close(self) -> None:
        self.watchdog.close()
        self.ours.close()
        self.theirs.close()
        for descriptor in (self.events, self._kernel, self.end_of_all, self.life):
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
    with closing(bench.another()) as watchdog:
        bench.later(bench.speak)
        assert watchdog.wait()


def test_the_kernel_says_nothing_new_to_a_daemon_that_is_awake(bench: Bench) -> None:
    bench.kernel_speaks()
    bench.speak()
    bench.hear()
    assert not bench.watchdog.wait()


def test_the_silence_of_a_daemon_that_rests_is_none(bench: Bench) -> None:
    bench.watchdog.rest()
    bench.later(bench.speak)
    bench.hear()


def test_a_daemon_that_rests_has_to_say_something_when_the_kernel_does(bench: Bench) -> None:
    bench.watchdog.rest()
    bench.kernel_speaks()
    assert not bench.watchdog.wait()
    assert select.select([bench.events], [], [], 0)[0]  # it is not read


def test_to_the_kernel_it_may_be_silent_again_after_a_word(bench: Bench) -> None:
    """And an event that stays unread calls for the next one."""
    bench.watchdog.rest()
    bench.kernel_speaks()
    bench.speak()
    bench.hear()
    assert not bench.watchdog.wait()
    os.read(bench.events, 64)
    bench.speak()
    bench.hear()
    bench.later(bench.speak)
    bench.hear()


def test_a_beat_ends_the_rest(bench: Bench) -> None:
    bench.watchdog.rest()
    bench.watchdog.beat()
    assert not bench.watchdog.wait()


def test_an_event_that_nobody_reads_does_not_keep_it_busy(bench: Bench) -> None:
    bench.watchdog.rest()
    bench.kernel_speaks()
    assert not bench.watchdog.wait()
    assert bench.timeline.waits == 2


def test_the_duplicate_is_closed_when_another_comes_and_at_the_end(bench: Bench) -> None:
    other = os.dup(bench.events)
    bench.watchdog.hear(other)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(bench.duplicate)
    bench.watchdog.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other)


def test_after_the_supervisor_only_the_end_of_the_last_worker_counts(bench: Bench) -> None:
    """What a worker writes to the pipe does not."""
    os.write(bench.life, b"bye")
    bench.watchdog.await_workers()
    assert not bench.watchdog.wait()
    bench.life, life = os.dup(bench.events), bench.life  # for `close`
    bench.later(lambda: os.close(life))
    assert bench.watchdog.wait()
