"""What the guardian makes of the daemon's messages, in this process."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from kernel.tree import make_uio
from support.waiting import until

from tcmu_runner.guardian import process as process_module
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.guardian.process import GONE, RELEASED, STALL_SECONDS, Ends, Served, watch
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Logs

from .timeline import Timeline

LONG = 6 * STALL_SECONDS


class NoLog(Logs):
    def __init__(self) -> None:
        """The test's own log stays as it is."""


class Bench:
    """Both ends. The waits that were ended are counted."""

    def __init__(self, paths: Paths) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end_of_all, life = os.pipe()
        self.daemon = Guardian(ours, life)
        self._paths = paths
        self.replaced = False
        self.releases = 0
        self.on_release: Callable[[], None] = lambda: None
        self.timeline = Timeline()

    def release(self, _paths: Paths) -> None:
        self.releases += 1
        self.on_release()

    def die(self) -> None:
        self.daemon.close()

    @contextmanager
    def worker(self, life: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """A process that the daemon has forked; it does what `life` says, then waits. Gives what ends it."""
        waits_at, ends_it = os.pipe()
        did_it, does_it = os.pipe()
        if os.fork() == 0:
            for descriptor in (ends_it, did_it, self.theirs.fileno(), self.end_of_all):
                os.close(descriptor)
            life()
            os.close(does_it)
            os.read(waits_at, 1)
            os._exit(0)
        for descriptor in (waits_at, does_it):
            os.close(descriptor)
        with open(did_it, "rb") as done:
            done.read()
        yield partial(os.close, ends_it)
        os.wait()

    def die_later(self) -> None:
        self.timeline.after(LONG, self.die)

    def watch(self) -> Served | None:
        """What it has heard in the end."""
        return watch(
            Ends(self.theirs, self.end_of_all),
            self._paths,
            NoLog(),
            lambda: self.replaced,
            self.timeline.poll,
        )

    def close(self) -> None:
        self.daemon.close()
        self.theirs.close()
        os.close(self.end_of_all)


@pytest.fixture
def bench(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with closing(Bench(paths)) as bench:
        monkeypatch.setattr(process_module, "release_waits", bench.release)
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


def test_what_a_worker_says_is_not_believed(bench: Bench) -> None:
    """It may be another's by now; only the supervisor speaks with the guardian."""
    bench.daemon.serving(0, "vol0")

    def life() -> None:
        bench.daemon.fall_silent()
        bench.daemon.dropped(0, "vol0")
        bench.daemon.serving(0, "anothers")
        bench.daemon._send("bye")

    with bench.worker(life) as end:
        end()
        bench.die()
        assert bench.watch() == {(0, "vol0")}


def test_the_rings_are_left_alone_until_the_last_worker_has_ended(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Though it writes what it likes to what it holds. Waits end before, since nobody would answer them."""
    bench.daemon.beat()
    bench.daemon.serving(0, "vol0")
    bench.daemon.beat()

    def life() -> None:
        bench.daemon.fall_silent()
        os.write(bench.daemon._life, b"bye")

    ended: list[int] = []
    with bench.worker(life) as end:

        def end_it() -> None:
            ended.append(bench.releases)
            end()

        bench.die()
        bench.on_release = lambda: bench.timeline.after(LONG, end_it)
        assert bench.watch() == {(0, "vol0")}
    assert ended == [1]
    caplog.clear()


def test_who_stands_still_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def hear_and_leave() -> None:
        select.select([bench.daemon.fileno()], [], [])
        told.append(bench.daemon.told())
        bench.daemon.say_goodbye()

    bench.daemon.beat()
    daemon = threading.Thread(target=hear_and_leave)
    daemon.start()
    assert bench.watch() is None
    daemon.join()
    assert (bench.releases, told) == (1, [RELEASED])
    caplog.clear()


def test_who_dies_while_it_stands_still_leaves_what_it_served(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """And has not read what it was told."""
    bench.daemon.beat()
    bench.daemon.serving(0, "vol0")
    bench.on_release = bench.die_later
    assert bench.watch() == {(0, "vol0")}
    assert bench.releases == 1
    caplog.clear()


def test_who_dies_while_its_waits_are_ended_leaves_what_it_served(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """And is not there any more to be told."""
    bench.daemon.beat()
    bench.daemon.serving(0, "vol0")
    bench.on_release = bench.die
    assert bench.watch() == {(0, "vol0")}
    caplog.clear()


def test_the_waits_of_another_daemon_are_left_alone(bench: Bench) -> None:
    """One that has taken the place of ours, of which a worker lives on."""
    bench.replaced = True
    bench.daemon.beat()
    bench.die_later()
    assert bench.watch() == set()
    assert bench.releases == 0


def test_a_guardian_that_is_gone_costs_nothing(bench: Bench) -> None:
    bench.theirs.close()
    bench.daemon.beat()
    assert bench.daemon.told() == GONE


def test_who_reads_the_daemons_output_sees_its_end(paths: Paths, tmp_path: Path) -> None:
    """Though the guardian stays, as long as there are devices; it can be asked to end."""
    make_uio(paths)
    read, write = os.pipe()
    if os.fork() == 0:  # a daemon, which ends
        os.dup2(write, 2)
        os.close(write)
        guardian = Guardian.start(paths, lambda: DaemonLock(tmp_path / "lock"), NoLog())
        os.write(2, Path(f"/proc/self/task/{os.getpid()}/children").read_bytes())
        guardian.say_goodbye()
        os._exit(0)
    os.close(write)
    with open(read, "rb") as output:
        guardian_pid = int(output.read())
    assert Path(f"/proc/{guardian_pid}/comm").read_text() == "tcmu-unlinking\n"
    os.kill(guardian_pid, signal.SIGTERM)
    os.wait()


def test_one_that_was_asked_to_end_while_the_daemon_lived_does_not_stay(paths: Paths, tmp_path: Path) -> None:
    """A shutdown sends SIGTERM to all processes at once, and waits for the last one."""
    make_uio(paths)
    read, write = os.pipe()
    if os.fork() == 0:  # a daemon, which ends
        guardian = Guardian.start(paths, lambda: DaemonLock(tmp_path / "lock"), NoLog())
        pid = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
        until(lambda: Path(f"/proc/{pid}/comm").read_text() == "tcmu-guardian\n")
        os.kill(pid, signal.SIGTERM)
        os.write(write, str(pid).encode())
        guardian.say_goodbye()
        os._exit(0)
    os.close(write)
    with open(read, "rb") as output:
        pid = int(output.read())
    os.wait()
    stat = Path(f"/proc/{pid}/stat")
    until(lambda: not stat.exists() or ") Z " in stat.read_text())
