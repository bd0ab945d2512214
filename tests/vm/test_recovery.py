"""A worker that dies costs its own device a moment, and nobody an I/O error (prior-art 2.1 #14).

The counts below are for CI. The full ones: TCMU_TEST_WORKER_KILLS=100 TCMU_TEST_DAEMON_KILLS=30.
"""

import os
import random
import re
import signal
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import eventually
from support.fio import Job, Verification, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback

HANDLERS = Path(__file__).parent / "handlers"
WORKER_KILLS = int(os.environ.get("TCMU_TEST_WORKER_KILLS", "4"))
DAEMON_KILLS = int(os.environ.get("TCMU_TEST_DAEMON_KILLS", "2"))
LUNS = 4
READ_SECOND_BLOCKS = "28 00 00000008 00 0008 00"  # READ(10): 4096 bytes at offset 4096
DIED = r"its worker process has ended; everything under way is retried"
MEMORY_LIMIT = "256M"


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("settings") / "tcmu-runner.toml"
    settings.write_text(f'[workers]\nmemory = "{MEMORY_LIMIT}"\n')
    return ("--handler-path", str(HANDLERS), "--settings", str(settings))


@pytest.fixture
def busy_luns(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> list[tuple[Backstore, Path]]:
    made = []
    for number in range(LUNS):
        backstore = make_backstore(f"file/{tmp_path}/disk{number}.img")
        made.append((backstore, loopback.add(backstore, lun=number)))
    return made


def under_load(luns: list[tuple[Backstore, Path]], stack: ExitStack) -> list[Verification]:
    return [stack.enter_context(verifying(Job(disk, 4 * MIB, depth=4))) for _, disk in luns]


def replaced(minor: int, victim: int) -> bool:
    return processes.named(f"{processes.WORKER}uio{minor}") not in ([], [victim])


def times_to_service(log: str) -> list[float]:
    """Seconds between the notice of a death and the new worker's service, from the log."""
    died: dict[str, datetime] = {}
    taken = []
    for stamp, device, text in re.findall(r"^(\S+ \S+) \d+ \[\w+\] (\S+ \(\S+\)): (.*)$", log, re.MULTILINE):
        at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f")
        if re.match(DIED, text):
            died[device] = at
        if text == "served again" and device in died:
            taken.append((at - died.pop(device)).total_seconds())
    return taken


def test_killed_workers_cost_no_error(
    daemon: Daemon, busy_luns: list[tuple[Backstore, Path]], expected_log: ExpectedLog
) -> None:
    expected_log(DIED)
    expected_log(r"in trouble \d+ times in a row", optional=True)
    chance = random.Random(2)
    since = daemon.position
    with ExitStack() as stack:
        jobs = under_load(busy_luns, stack)
        for _ in range(WORKER_KILLS):
            number = chance.randrange(LUNS)
            minor = processes.minor_of(busy_luns[number][0].name)
            victim = processes.worker(minor)
            os.kill(victim, signal.SIGKILL)
            eventually("a new worker", lambda: replaced(minor, victim))  # noqa: B023 - used at once
            jobs[number].progress(50)
    taken = sorted(times_to_service(daemon.text(since)))
    assert len(taken) == WORKER_KILLS
    print(f"death to service: median {taken[len(taken) // 2] * 1e3:.0f} ms, at most {taken[-1] * 1e3:.0f} ms")


def test_killed_daemons_cost_no_error(
    daemon: Daemon, busy_luns: list[tuple[Backstore, Path]], expected_log: ExpectedLog
) -> None:
    expected_log(f"the daemon has died; {LUNS} devices are blocked")
    with ExitStack() as stack:
        jobs = under_load(busy_luns, stack)
        for _ in range(DAEMON_KILLS):
            daemon.kill()
            daemon.start()
            for job in jobs:
                job.progress(50)
