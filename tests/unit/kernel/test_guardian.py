"""What the guardian makes of the daemon's messages, in this process."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tcmu_runner.kernel import guardian as guardian_module
from tcmu_runner.kernel.guardian import GONE, RELEASED, Guardian, Served, watch
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.logs import Log

SECONDS = 0.05
LONG = 6 * SECONDS


class NoLog(Log):
    def __init__(self) -> None:
        """The test's own log stays as it is."""


class Bench:
    """Both ends; a pipe is what the daemon reads events from. The waits that were ended are counted."""

    def __init__(self, paths: Paths) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon = Guardian(ours)
        self._ours = ours
        self._paths = paths
        self.replaced = False
        self.releases = 0
        self.events, self.kernel = os.pipe()

    def release(self, _paths: Paths) -> None:
        self.releases += 1

    def die(self) -> None:
        self._ours.close()

    def die_later(self) -> None:
        threading.Timer(LONG, self.die).start()

    def watch(self) -> Served | None:
        """What it has heard in the end."""
        return watch(self.theirs, self._paths, NoLog(), lambda: self.replaced)

    def listeners(self) -> int:
        """Descriptors of this process that are the daemon's events."""
        ours = os.fstat(self.events)
        found = 0
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - their numbers
            with suppress(OSError):
                found += os.path.samestat(os.fstat(int(name)), ours)
        return found

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()
        os.close(self.events)
        os.close(self.kernel)


@pytest.fixture
def bench(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with closing(Bench(paths)) as bench:
        monkeypatch.setattr(guardian_module, "release_waits", bench.release)
        monkeypatch.setattr(guardian_module, "STALL_SECONDS", SECONDS)
        yield bench


def test_a_daemon_that_dies_leaves_what_it_served(bench: Bench) -> None:
    bench.daemon.serving(0, "vol0")
    bench.daemon.serving(1, "vol1")
    bench.daemon.dropped(0, "vol0")
    bench.daemon.beat()
    bench.die()
    assert bench.watch() == {(1, "vol1")}
    assert bench.releases == 0


def test_a_goodbye_leaves_nothing(bench: Bench) -> None:
    bench.daemon.serving(0, "vol0")
    bench.daemon.say_goodbye()
    assert bench.watch() is None


def test_who_stands_still_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.daemon.beat()
    threading.Timer(LONG, bench.daemon.say_goodbye).start()
    told: list[str] = []
    threading.Timer(LONG / 2, lambda: told.append(bench.daemon.told())).start()
    assert bench.watch() is None
    assert (bench.releases, told) == (1, [RELEASED])
    caplog.clear()


def test_who_dies_while_it_stands_still_leaves_what_it_served(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """And has not read what it was told."""
    bench.daemon.serving(0, "vol0")
    bench.die_later()
    assert bench.watch() == {(0, "vol0")}
    assert bench.releases == 1
    caplog.clear()


def test_a_daemon_may_rest(bench: Bench) -> None:
    bench.daemon.hear(bench.events)
    bench.daemon.rest()
    bench.die_later()
    assert bench.watch() == set()
    assert bench.releases == 0


def test_but_not_when_the_kernel_waits_for_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.daemon.hear(bench.events)
    bench.daemon.rest()
    threading.Timer(SECONDS, os.write, (bench.kernel, b"event")).start()
    bench.die_later()
    assert bench.watch() == set()
    assert bench.releases == 1
    caplog.clear()


def test_nor_when_it_has_beaten_since(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.daemon.hear(bench.events)
    bench.daemon.rest()
    bench.daemon.beat()
    bench.die_later()
    assert bench.watch() == set()
    assert bench.releases == 1
    caplog.clear()


def test_the_waits_of_another_daemon_are_left_alone(bench: Bench) -> None:
    """One that has taken the place of ours, of which a worker lives on."""
    bench.replaced = True
    bench.daemon.beat()
    bench.die_later()
    assert bench.watch() == set()
    assert bench.releases == 0


@pytest.mark.parametrize("end", ["die", "goodbye"])
def test_nothing_listens_to_the_kernel_for_a_daemon_that_has_ended(bench: Bench, end: str) -> None:
    before = bench.listeners()
    bench.daemon.hear(bench.events)
    bench.daemon.hear(bench.events)
    if end == "die":
        bench.die()
    else:
        bench.daemon.say_goodbye()
    bench.watch()
    assert bench.listeners() == before


def test_a_guardian_that_is_gone_costs_nothing(bench: Bench) -> None:
    bench.theirs.close()
    bench.daemon.beat()
    bench.daemon.hear(bench.events)
    bench.daemon.rest()
    assert bench.daemon.told() == GONE
