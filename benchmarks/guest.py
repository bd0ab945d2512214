"""The guest's part of the benchmark in the virtual machine: measures, and leaves the rows in a file.

`PYTHONPATH=tests/vm python -m benchmarks.guest ROUNDS SECONDS ROWS [ARM...|crypt]`, as root. By hand in
a running machine:
`python -m vm exec -- env PYTHONPATH=tests/vm python3 -m benchmarks.guest 1 2 /tmp/rows.json`.
"""

import json
import subprocess
import sys
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

Samples = dict[tuple[str, str], list[tuple[Result, float | None]]]  # by workload and arm


def main(rounds: int, seconds: float, rows: Path, names: list[str]) -> None:
    cleanup.everything()
    modules = ["target_core_user", "target_core_file", "target_core_iblock", "tcm_loop"]
    subprocess.run(["modprobe", "-a", *modules], check=True)
    fill(IMAGE)
    samples: Samples = {(workload.name, name): [] for workload in WORKLOADS for name in names}
    for number in range(rounds):
        for name in [*names[number % len(names) :], *names[: number % len(names)]]:
            take_turn(f"round {number + 1}/{rounds}", name, seconds, samples)
        rows.write_text(json.dumps(summary(samples)))
    print(table(summary(samples)))


def take_turn(where: str, name: str, seconds: float, samples: Samples) -> None:
    with (ARMS | CRYPT)[name]() as disk:
        for workload in WORKLOADS:
            result, cpu = measure(workload, disk, seconds)
            samples[workload.name, name].append((result, cpu))
            print(f"{where} {name:10} {workload.name:18} {result.iops:7.0f} IOPS", flush=True)


def measure(workload: Workload, disk: Disk, seconds: float) -> tuple[Result, float | None]:
    """The result, and the daemon's CPU microseconds per I/O."""
    subprocess.run(["udevadm", "settle"], check=True)  # udev reads a disk after each writer
    before = disk.cpu() if disk.cpu else 0.0
    result = fio.run(workload, disk.path, seconds)
    return result, (disk.cpu() - before) * 1e6 / result.ios if disk.cpu else None


def summary(samples: Samples) -> list[Row]:
    """A row for each workload and arm: IOPS of each round, and medians."""
    return [
        {
            "workload": workload,
            "arm": arm,
            "iops": [round(result.iops, 1) for result, _ in found],
            "p99_us": round(median(result.p99_us for result, _ in found), 1),
            "cpu_us_per_io": round(median(used), 1) if (used := [cpu for _, cpu in found if cpu]) else None,
        }
        for (workload, arm), found in samples.items()
        if found
    ]


if __name__ == "__main__":
    wanted = list(CRYPT) if sys.argv[4:] == ["crypt"] else sys.argv[4:]
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), wanted or list(ARMS))
