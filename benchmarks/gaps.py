"""How long initiators wait when a process of our daemon is killed: reads of 4 KiB, one after another on each
of four LUNs, as the initiator sees them."""

import mmap
import multiprocessing
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.loopback import Loopback

LUNS = 4
SIZE = 16 << 20
WORKERS, SUPERVISORS = 10, 2  # are killed in a round
CALM_SECONDS = 2.0  # between two: a device that dies more often is served later and later

TRACING = Path("/sys/kernel/tracing")
EXIT = re.compile(r"([0-9.]+): sched_process_exit: .*pid=([0-9]+) ")


class Tell(Protocol):
    def __call__(self, what: str, arm: str, *values: float) -> None: ...


class Reader:
    """A process that reads a disk again and again while it is `reading`; the longest read is that since
    `forget`."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._times = memoryview(mmap.mmap(-1, 16)).cast("d")  # shared: the last one's begin, the longest
        self._times[0] = time.monotonic()

    def _run(self) -> None:
        times, descriptor = self._times, os.open(self._disk, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as memory:
            while True:
                times[0] = began = time.monotonic()
                os.preadv(descriptor, [memory], 0)
                times[1] = max(times[1], time.monotonic() - began)

    @contextmanager
    def reading(self) -> Iterator[None]:
        process = multiprocessing.get_context("fork").Process(target=self._run)
        process.start()
        yield
        process.kill()
        process.join()

    def forget(self) -> None:
        self._times[1] = 0.0

    @property
    def longest(self) -> float:
        return max(self._times[1], time.monotonic() - self._times[0])


def measure(tell: Tell) -> None:
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(Path(directory) / "log")
        daemon.start()
        made = [Backstore.create(f"vol{n}", f"file/{directory}/{n}.img", SIZE) for n in range(LUNS)]
        loopback = Loopback().create()
        disks = []
        for number, backstore in enumerate(made):
            backstore.enable()
            disks.append(loopback.add(backstore, lun=number))
        kill_workers(made, disks, tell)
        kill_supervisors(daemon, disks, tell)
        loopback.delete()
        for backstore in made:
            backstore.remove()
        daemon.stop()


@contextmanager
def all_reading(disks: list[Path]) -> Iterator[list[Reader]]:
    with ExitStack() as stack:
        readers = [Reader(disk) for disk in disks]
        for reader in readers:
            stack.enter_context(reader.reading())
        yield readers


def kill_workers(made: list[Backstore], disks: list[Path], tell: Tell) -> None:
    waits: list[float] = []
    since_death: list[float] = []
    others: list[float] = []
    usual: list[float] = []
    chance = random.Random()
    with all_reading(disks) as readers, urgent(), exits_traced():
        for _ in range(WORKERS):
            number = chance.randrange(LUNS)
            time.sleep(CALM_SECONDS)
            usual.extend(longest(readers, 0.1, number))
            minor = processes.minor_of(made[number].name)
            victim = processes.worker(minor)
            for reader in readers:
                reader.forget()
            killed, died, served = times(victim, disks[number])
            waits.append(1e3 * (served - killed))
            since_death.append(1e3 * (served - died))
            others.extend(1e3 * each.longest for each in readers if each is not readers[number])
    tell("ms from a worker's SIGKILL to the data of a read", "ours", *waits)
    tell("ms from a worker's death to the data of a read", "ours", *since_death)
    tell("ms, longest read of the other LUNs meanwhile", "ours", *others)
    tell("ms, longest read of a LUN in 100 ms without", "ours", *usual)


@contextmanager
def urgent() -> Iterator[None]:
    """Who measures does not wait for a processor: that is not what is measured."""
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, 0)


def longest(readers: list[Reader], seconds: float, besides: int) -> list[float]:
    for reader in readers:
        reader.forget()
    time.sleep(seconds)
    return [1e3 * reader.longest for number, reader in enumerate(readers) if number != besides]


@contextmanager
def exits_traced() -> Iterator[None]:
    """The kernel notes when each thread lets go of its descriptors, by the clock of time.monotonic()."""
    (TRACING / "trace_clock").write_text("mono")
    switch = TRACING / "events/sched/sched_process_exit/enable"
    switch.write_text("1")
    yield
    switch.write_text("0")


def times(victim: int, disk: Path) -> tuple[float, float, float]:
    """When it was killed, when the last of its threads was dead, when a read that was sent right after the
    SIGKILL had its data."""
    threads = {task.name for task in Path(f"/proc/{victim}/task").iterdir()}
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as memory:
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        os.preadv(descriptor, [memory], 8192)
        served = time.monotonic()
    os.close(descriptor)
    exits = EXIT.findall((TRACING / "trace").read_text())
    return killed, max(float(moment) for moment, thread in exits if thread in threads), served


def kill_supervisors(daemon: Daemon, disks: list[Path], tell: Tell) -> None:
    """The gap of each LUN, and how long the new daemon needs until it says that it is ready."""
    for _ in range(SUPERVISORS):
        with all_reading(disks) as readers:
            time.sleep(0.5)
            for reader in readers:
                reader.forget()
            began = time.monotonic()
            daemon.kill()
            daemon.start()
            tell("s from a supervisor's death until the next is ready", "ours", time.monotonic() - began)
            time.sleep(0.5)
            waits = [reader.longest for reader in readers]
        tell("s without service of a LUN meanwhile", "ours", *waits)
