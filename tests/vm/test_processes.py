"""Which processes serve devices, what they may do, and that no event of many at once is lost.

The counts below are for CI. The full ones: TCMU_TEST_STORM=500 TCMU_TEST_DEVICES=256.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import cleanup, processes
from support import disk as raw
from support.configfs import Backstore
from support.daemon import Daemon, Expectation, unexpected
from support.deadline import GENEROUS, eventually
from support.fio import Job, verifying
from support.fixtures import MIB
from support.loopback import Loopback

STORM = int(os.environ.get("TCMU_TEST_STORM", "64"))
DEVICES = int(os.environ.get("TCMU_TEST_DEVICES", "16"))
STORM_SECONDS = 1800.0
SMALL = {"max_data_area_mb": 1, "cmd_ring_size_mb": 1}
SHARED = "tcmu-worker"
SPARE = "tcmu-idle"
DAC_OVERRIDE = 1 << 1  # linux/capability.h


@contextmanager
def daemon(directory: Path, workers: str, *expected: Expectation) -> Iterator[Daemon]:
    """One with these lines in its table [workers]; in the end everything goes, and its log has been quiet."""
    settings = directory / "tcmu-runner.toml"
    settings.write_text(f"[workers]\n{workers}\n")
    running = Daemon(directory / "log", "--settings", str(settings))
    try:
        running.start()
        yield running
        cleanup.everything()
        running.stop()
    finally:
        running.end_by_force()
        print(running.text())
    assert not (found := unexpected(running.text(), expected)), "\n".join(found)


def enabled(number: int, config: str = "ram/", size: int = 4 * MIB) -> Backstore:
    backstore = Backstore.create(f"vol{number}", config, size, control=SMALL)
    backstore.enable()
    return backstore


def status(pid: int) -> dict[str, str]:
    """proc(5): /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def capabilities(pid: int) -> set[int]:
    """What is in the five sets of its threads."""
    found = [status(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return {int(thread[name], 16) for thread in found for name in names}


def sockets(pid: int) -> set[str]:
    """But for standard error and the like, that all processes share."""
    found = {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {name for number, name in found.items() if number > 2 and name.startswith("socket:")}


def test_a_worker_may_do_only_what_its_handler_asks_for(tmp_path: Path) -> None:
    """Nor does it hold an end on which the supervisor is believed."""
    with daemon(tmp_path, "") as running:
        enabled(0)
        enabled(1, f"file/{tmp_path}/disk.img")
        plain, file = (processes.worker(processes.minor_of(f"vol{number}")) for number in range(2))
        assert capabilities(plain) == {0}
        assert capabilities(file) <= {0, DAC_OVERRIDE}
        assert status(plain)["NoNewPrivs"] == status(file)["NoNewPrivs"] == "1"
        for pid in (plain, file, *processes.named(processes.TEMPLATE)):
            assert not sockets(pid) & sockets(running.pid)


def served_again(running: Daemon, times: int) -> None:
    eventually("it serves", lambda: running.text().count("served again") == times)


def test_so_may_a_spare_one_that_has_taken_over(tmp_path: Path, loopback: Loopback) -> None:
    """It was made before anybody knew for which handler."""
    killed = Expectation(r"worker process ended( \(SIGKILL\))?: initiators retry")
    with daemon(tmp_path, "", killed) as running:
        loopback.add(enabled(0))
        loopback.add(enabled(1, f"file/{tmp_path}/disk.img"), lun=1)
        for number, most in enumerate(({0}, {0, DAC_OVERRIDE})):
            eventually("a spare worker", lambda: len(processes.named(SPARE)) == 1)
            (spare,) = processes.named(SPARE)
            processes.sleep_of(spare)  # it waits for its device
            os.kill(processes.worker(processes.minor_of(f"vol{number}")), signal.SIGKILL)
            served_again(running, number + 1)
            assert processes.worker(processes.minor_of(f"vol{number}")) == spare
            assert capabilities(spare) <= most
            assert status(spare)["NoNewPrivs"] == "1"


def test_a_worker_becomes_the_user_and_has_the_limits_of_the_settings(
    tmp_path: Path, loopback: Loopback
) -> None:
    lines = 'user = "nobody"\nmemory = "100M"\nopen_files = 123\nnice = 5'
    with daemon(tmp_path, lines):
        disk = loopback.add(enabled(0))
        pid = processes.worker(processes.minor_of("vol0"))
        nobody = status(pid)["Uid"].split()
        assert set(nobody) == {"65534"}
        assert capabilities(pid) == {0}
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max open files            123                  123" in limits
        assert "Max data size             unlimited" not in limits
        eventually("the priority of one that serves", lambda: os.getpriority(os.PRIO_PROCESS, pid) == 5)
        raw.write(disk, 0, b"\x5a" * 4096)
        assert raw.read(disk, 0, 4096) == b"\x5a" * 4096


def test_shared_workers_are_replaced_for_their_own_devices_only(tmp_path: Path) -> None:
    killed = Expectation(r"worker process ended( \(SIGKILL\))?: initiators retry")
    with daemon(tmp_path, "processes = 2", killed) as running:
        loopback = Loopback().create()
        disks = [loopback.add(enabled(n, f"file/{tmp_path}/{n}.img"), lun=n) for n in range(4)]
        victim, survivor = processes.named(SHARED)
        with verifying(Job(disks[0], 2 * MIB)) as one, verifying(Job(disks[1], 2 * MIB)) as other:
            os.kill(victim, signal.SIGKILL)
            eventually("a new worker", lambda: len(set(processes.named(SHARED)) - {victim}) == 2)
            one.progress(50)
            other.progress(50)
        assert survivor in processes.named(SHARED)
        assert running.text().count("served again") == 2
        for disk in disks:
            assert raw.read(disk, 3 * MIB, 4096) == bytes(4096)


def test_without_workers_the_daemon_serves_by_itself(tmp_path: Path, loopback: Loopback) -> None:
    with daemon(tmp_path, "processes = 0") as running:
        disk = loopback.add(enabled(0))
        with verifying(Job(disk, 2 * MIB)) as fio:
            fio.progress(50)
        assert processes.named("tcmu-") == [running.pid, *processes.named(processes.GUARDIAN)]


def test_without_its_template_the_daemon_begins_anew(tmp_path: Path, loopback: Loopback) -> None:
    """No worker lives without it; whoever starts daemons starts another one, and no I/O has failed."""
    more = [
        "worker process ended",
        "no spare worker",
        r"failed \d+ times",
        "did not end within 25 s: initiators retry them",
        "Broken pipe: initiators retry the commands under way",
    ]
    expected = [Expectation("the template process has ended, and all workers with it")]
    expected += [Expectation(pattern, optional=True) for pattern in more]
    with daemon(tmp_path, "", *expected) as running:
        disk = loopback.add(enabled(0, f"file/{tmp_path}/disk.img"))
        with verifying(Job(disk, 4 * MIB)) as fio:
            (fork_server,) = processes.named(processes.TEMPLATE)
            os.kill(fork_server, signal.SIGKILL)
            assert running.process is not None
            assert running.process.wait(GENEROUS) == 1
            running.start()
            fio.progress(100)


def test_many_devices_have_a_worker_each(tmp_path: Path) -> None:
    with daemon(tmp_path, ""):
        made = [enabled(number, f"file/{tmp_path}/{number}.img") for number in range(DEVICES)]
        workers = {processes.worker(processes.minor_of(backstore.name)) for backstore in made}
        assert len(workers) == DEVICES
        loopback = Loopback().create()
        for number, backstore in enumerate(made[:: DEVICES // 4]):
            disk = loopback.add(backstore, lun=number)
            raw.write(disk, 0, bytes([number + 1]) * 4096)
            assert raw.read(disk, 0, 4096) == bytes([number + 1]) * 4096
        print(f"{sum(map(processes.own_memory, workers)) / DEVICES / MIB:.1f} MiB of each worker's own")


def storm(names: range, script: str) -> None:
    """A process of its own for each device, all at once; each must end well."""
    started = [subprocess.Popen(["sh", "-c", script, "sh", str(number)]) for number in names]
    assert [process.wait(STORM_SECONDS) for process in started] == [0] * len(started)


def test_of_many_devices_at_once_none_is_lost(tmp_path: Path) -> None:
    """Made at once, and removed at once; by four workers, since the machine has no memory for hundreds."""
    with daemon(tmp_path, "processes = 4") as running:
        hba = Path("/sys/kernel/config/target/core/user_0")
        for number in range(STORM):
            Backstore.create(f"vol{number}", "ram/", 4 * MIB, control=SMALL)
        storm(range(STORM), f'echo 1 >{hba}/vol"$1"/enable')
        names = {name.split("/")[2] for name in processes.uio_devices()}
        assert names == {f"vol{number}" for number in range(STORM)}
        assert running.text().count(": added, 4 MiB") == STORM
        storm(range(STORM), f'rmdir {hba}/vol"$1"')
        assert processes.uio_devices() == []
        assert running.text().count(": removed") == STORM
