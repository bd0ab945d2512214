"""The guest's part of the benchmark of many devices: measures, and leaves the rows in a file.

`PYTHONPATH=tests/vm python -m benchmarks.fleet_guest ROUNDS SECONDS ROWS [PART...]`, as root. The parts are
`many` (both daemons), `idle` (ours, for a minute) and `kills` (ours; 10 workers and 2 supervisors a round).
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import cleanup, processes
from support.configfs import Backstore
from support.loopback import Loopback

from benchmarks import fio, gaps
from benchmarks.arms import Daemon
from benchmarks.fio import Workload
from benchmarks.guest import OURS, C
from benchmarks.report import Measurement, list_of

DEVICES = 64
BUSY = 4
MIB = 1 << 20
SIZE = 16 * MIB
IDLE_SECONDS = 60.0
SMALL = {"max_data_area_mb": 8, "cmd_ring_size_mb": 1}  # the kernel's own memory is not what is measured
IMAGES = Path("/tmp/fleet")
ARMS = {"c": Daemon(C, "qcow"), "ours": Daemon(OURS, "file")}
WORKLOADS = (Workload("4k", "randread", 1), Workload("4k", "randread", 32))


class Samples:
    """Values by quantity and arm, in the order in which they first came."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = {}

    def add(self, what: str, arm: str, *values: float) -> None:
        self._values.setdefault((what, arm), []).extend(values)
        print(f"{arm:8} {what}: {', '.join(f'{value:.3f}' for value in values[:8])}", flush=True)

    def rows(self) -> list[Measurement]:
        return [{"what": what, "arm": arm, "values": found} for (what, arm), found in self._values.items()]


def main(rounds: int, seconds: float, rows: Path, parts: list[str]) -> None:
    cleanup.everything()
    subprocess.run(["modprobe", "-a", "target_core_user", "tcm_loop"], check=True)
    samples = Samples()
    for number in range(rounds):
        if "many" in parts:
            for name in sorted(ARMS, reverse=number % 2 == 1):
                many(ARMS[name], name, seconds, samples)
        if "idle" in parts:
            idle(ARMS["ours"], samples)
        if "kills" in parts:
            gaps.measure(samples.add)
        rows.write_text(json.dumps(samples.rows()))
    print(list_of(samples.rows()))


@contextmanager
def devices(daemon: Daemon, count: int, took: list[float]) -> Iterator[list[Backstore]]:
    """So many small files as devices; their creation times in seconds go to `took`."""
    IMAGES.mkdir(exist_ok=True)
    made: list[Backstore] = []
    for number in range(count):
        image = IMAGES / f"{number}.img"
        with image.open("wb") as file:
            file.truncate(SIZE)
        began = time.monotonic()
        backstore = Backstore.create(f"vol{number}", f"{daemon.handler}/{image}", SIZE, control=SMALL)
        backstore.enable()
        took.append(time.monotonic() - began)
        made.append(backstore)
    try:
        yield made
    finally:
        for backstore in made:
            backstore.remove()


def many(daemon: Daemon, arm: str, seconds: float, samples: Samples) -> None:
    took: list[float] = []
    with daemon.running(), devices(daemon, DEVICES, took) as made:
        samples.add("s to create a device, of 64", arm, *took)
        own = [processes.own_memory(pid) / MIB for pid in processes.named(processes.WORKER)]
        if own:
            samples.add("MiB of own memory of a worker, just made", arm, *own)
        busy(made[:BUSY], arm, seconds, samples)
        began = time.monotonic()
    samples.add("s to remove a device, of 64", arm, (time.monotonic() - began) / DEVICES)


def busy(made: list[Backstore], arm: str, seconds: float, samples: Samples) -> None:
    """One LUN, then four at once, then one again: the machine may have become slower meanwhile."""
    loopback = Loopback().create()
    disks = [loopback.add(backstore, lun=number) for number, backstore in enumerate(made)]
    for workload in WORKLOADS:
        one = fio.run(workload, disks[0], seconds).iops
        four = fio.run(workload, disks[0], seconds, *disks[1:]).iops
        again = fio.run(workload, disks[0], seconds).iops
        samples.add(f"IOPS of one LUN, {workload.name}", arm, (one + again) / 2)
        samples.add(f"IOPS of four LUNs, {workload.name}", arm, four)
        samples.add(f"four LUNs to one, {workload.name}", arm, four / ((one + again) / 2))
    own = [
        processes.own_memory(processes.worker(processes.minor_of(each.name)))
        for each in made
        if arm == "ours"
    ]
    if own:
        samples.add("MiB of own memory of a worker that was busy", arm, *(size / MIB for size in own))
    loopback.delete()


def idle(daemon: Daemon, samples: Samples) -> None:
    with daemon.running(), devices(daemon, DEVICES, []):
        time.sleep(5.0)  # the last spare worker gets ready
        before, began = daemon.cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used = (daemon.cpu() - before) / (time.monotonic() - began)
        samples.add("% of a CPU of the idle daemon with 64 devices", "ours", 100 * used)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] or ["many", "idle", "kills"])
