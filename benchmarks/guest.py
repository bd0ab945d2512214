"""The guest's part of the benchmark on a real kernel: measures, and leaves the rows in a file.

`PYTHONPATH=tests/vm python -m benchmarks.guest ROUNDS SECONDS ROWS [ARM...|crypt]`, as root. By hand in
a running machine:
`python -m vm exec -- env PYTHONPATH=tests/vm python3 -m benchmarks.guest 1 2 /tmp/rows.json`.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from support import cleanup

from benchmarks import fio
from benchmarks.arms import IMAGE, Arm, Daemon, Disk, dm_crypt, fileio, fill, luks
from benchmarks.fio import WORKLOADS, Result, Workload
from benchmarks.report import Row, table

C = "/usr/bin/tcmu-runner"
OURS = "/opt/tcmu-runner/bin/tcmu-runner"

# Debian's C daemon has no `file`; its `qcow` takes plain files. It passes the kernel's default of
# hw_max_sectors, 128, on to initiators, which cut 128 KiB in two; the -2048 arms tell what that costs.
ARMS: dict[str, Arm] = {
    "fileio": fileio,
    "c": Daemon(C, "qcow"),
    "ours": Daemon(OURS, "file"),
    "c-2048": Daemon(C, "qcow", ",hw_max_sectors=2048"),
    "ours-2048": Daemon(OURS, "file", ",hw_max_sectors=2048"),
}
CRYPT: dict[str, Arm] = {
    "dm-crypt": partial(dm_crypt, 512),
    "luks": partial(luks, OURS, 512),
    "dm-crypt-4k": partial(dm_crypt, 4096),
    "luks-4k": partial(luks, OURS, 4096),
}

TRACED_SECONDS = 1.0


@dataclass(frozen=True)
class Cost:
    """What a daemon spends on one I/O: microseconds of CPU, and context switches."""

    cpu_us: float
    switches: float


Samples = dict[tuple[str, str], list[tuple[Result, Cost | None]]]  # by workload and arm
Calls = dict[tuple[str, str], float]
"""System calls for one I/O, by workload and arm."""


def main(rounds: int, seconds: float, rows: Path, names: list[str]) -> None:
    cleanup.everything()
    modules = ["target_core_user", "target_core_file", "target_core_iblock", "tcm_loop"]
    subprocess.run(["modprobe", "-a", *modules], check=True)
    fill(IMAGE)
    samples: Samples = {(workload.name, name): [] for workload in WORKLOADS for name in names}
    for number in range(rounds):
        for name in [*names[number % len(names) :], *names[: number % len(names)]]:
            take_turn(f"round {number + 1}/{rounds}", name, seconds, samples)
        rows.write_text(json.dumps(summary(samples, {})))
    calls = {pair: count for name in names for pair, count in traced(name).items()}
    rows.write_text(json.dumps(summary(samples, calls)))
    print(table(summary(samples, calls)))


def take_turn(where: str, name: str, seconds: float, samples: Samples) -> None:
    with (ARMS | CRYPT)[name]() as disk:
        for workload in WORKLOADS:
            result, cost = measure(workload, disk, seconds)
            samples[workload.name, name].append((result, cost))
            print(f"{where} {name:10} {workload.name:18} {result.iops:7.0f} IOPS", flush=True)


def measure(workload: Workload, disk: Disk, seconds: float) -> tuple[Result, Cost | None]:
    """The result, and what an I/O of it has cost the daemon, if there is one."""
    subprocess.run(["udevadm", "settle"], check=True)  # udev reads a disk after each writer
    if disk.daemon is None:
        return fio.run(workload, disk.path, seconds), None
    cpu, switches = disk.daemon.cpu(), disk.daemon.switches()
    result = fio.run(workload, disk.path, seconds)
    cpu, switches = disk.daemon.cpu() - cpu, disk.daemon.switches() - switches
    return result, Cost(cpu * 1e6 / result.ios, switches / result.ios)


def traced(name: str) -> Calls:
    """How many system calls the daemon of an arm makes for an I/O; nothing where the kernel serves."""
    calls: Calls = {}
    with (ARMS | CRYPT)[name]() as disk:
        if disk.daemon is not None:
            for workload in WORKLOADS:
                subprocess.run(["udevadm", "settle"], check=True)
                counts: list[int] = []
                with disk.daemon.traced(counts):
                    result = fio.run(workload, disk.path, TRACED_SECONDS)
                calls[workload.name, name] = sum(counts) / result.ios
    return calls


def summary(samples: Samples, calls: Calls) -> list[Row]:
    """A row for each workload and arm: IOPS of each round, and medians."""
    return [
        {
            "workload": workload,
            "arm": arm,
            "iops": [round(result.iops, 1) for result, _ in found],
            "p99_us": round(median(result.p99_us for result, _ in found), 1),
            "cpu_us_per_io": middle([cost.cpu_us for _, cost in found if cost]),
            "syscalls_per_io": middle([calls[pair]]) if (pair := (workload, arm)) in calls else None,
            "switches_per_io": middle([cost.switches for _, cost in found if cost]),
        }
        for (workload, arm), found in samples.items()
        if found
    ]


def middle(values: list[float]) -> float | None:
    return round(median(values), 2) if values else None


if __name__ == "__main__":
    wanted = list(CRYPT) if sys.argv[4:] == ["crypt"] else sys.argv[4:]
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), wanted or list(ARMS))
