import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tcmu_runner.kernel.vigil import Vigil

SECONDS = 0.05
LONG = 6 * SECONDS


class Bench:
    """The daemon's end, and a pipe as the socket of which the kernel's events are read."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.events, self._kernel = os.pipe()
        self.duplicate = os.dup(self.events)
        self.vigil = Vigil(self.theirs, SECONDS)
        self.vigil.hear(self.duplicate)

    def kernel_speaks(self) -> None:
        os.write(self._kernel, b"event")

    def later(self, step: Callable[[], object]) -> threading.Timer:
        """After a time that is long for who waits for SECONDS."""
        timer = threading.Timer(LONG, step)
        timer.start()
        return timer

    def speak(self) -> None:
        self.ours.send(b"x")

    def hear(self) -> None:
        assert self.vigil.wait()
        self.theirs.recv(64)

    def close(self) -> None:
        self.vigil.close()
        self.ours.close()
        self.theirs.close()
        os.close(self.events)
        os.close(self._kernel)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(Bench()) as bench:
        yield bench


def test_silence_is_a_stall_and_told_once(bench: Bench) -> None:
    assert not bench.vigil.wait()
    timer = bench.later(bench.speak)
    bench.hear()
    timer.join()
    assert not bench.vigil.wait()


def test_the_kernel_says_nothing_new_to_a_daemon_that_is_awake(bench: Bench) -> None:
    bench.kernel_speaks()
    bench.speak()
    bench.hear()
    assert not bench.vigil.wait()


def test_the_silence_of_a_daemon_that_rests_is_none(bench: Bench) -> None:
    bench.vigil.rest()
    timer = bench.later(bench.speak)
    bench.hear()
    timer.join()


def test_a_daemon_that_rests_has_to_say_something_when_the_kernel_does(bench: Bench) -> None:
    bench.vigil.rest()
    bench.kernel_speaks()
    assert not bench.vigil.wait()
    assert select.select([bench.events], [], [], 0)[0]  # it is not read


def test_to_the_kernel_it_may_be_silent_again_after_a_word(bench: Bench) -> None:
    """And an event that stays unread calls for the next one."""
    bench.vigil.rest()
    bench.kernel_speaks()
    bench.speak()
    bench.hear()
    assert not bench.vigil.wait()
    os.read(bench.events, 64)
    bench.speak()
    bench.hear()
    timer = bench.later(bench.speak)
    bench.hear()
    timer.join()


def test_a_beat_ends_the_rest(bench: Bench) -> None:
    bench.vigil.rest()
    bench.vigil.beat()
    assert not bench.vigil.wait()


def test_an_event_that_nobody_reads_does_not_keep_it_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], select.select

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(select, "select", counted)
    bench.vigil.rest()
    bench.kernel_speaks()
    assert not bench.vigil.wait()
    assert len(calls) == 2


def test_the_duplicate_is_closed_when_another_comes_and_at_the_end(bench: Bench) -> None:
    other = os.dup(bench.events)
    bench.vigil.hear(other)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(bench.duplicate)
    bench.vigil.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other)
