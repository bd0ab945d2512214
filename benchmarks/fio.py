"""The workloads, and fio that runs them."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0  # more than fio needs to start and end on a busy emulated machine


@dataclass(frozen=True)
class Workload:
    """A fio job; `size` as fio has it, such as 4k."""

    size: str
    pattern: str
    depth: int

    @property
    def name(self) -> str:
        return f"{self.size}-{self.pattern}-qd{self.depth}"


WORKLOADS = (
    Workload("4k", "randread", 1),
    Workload("4k", "randwrite", 1),
    Workload("4k", "randread", 32),
    Workload("4k", "randwrite", 32),
    Workload("128k", "read", 8),
    Workload("128k", "write", 8),
)


@dataclass(frozen=True)
class Result:
    """p99_us: of the whole latency, from before the submission to the completion."""

    iops: float
    p99_us: float
    ios: int


def run(workload: Workload, disk: Path, seconds: float, *others: Path) -> Result:
    """One job for each disk, all at once, around the page cache: their sums. Raises CalledProcessError on an
    I/O error, TimeoutExpired."""
    command = [
        "fio", "--ioengine=libaio", "--direct=1", "--group_reporting",
        f"--rw={workload.pattern}", f"--bs={workload.size}", f"--iodepth={workload.depth}",
        f"--runtime={round(seconds * 1000)}ms", "--time_based", "--lat_percentiles=1", "--output-format=json",
    ]  # fmt: skip
    for number, path in enumerate((disk, *others)):
        command += [f"--name=benchmark{number}", f"--filename={path}"]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, timeout=seconds + START_SECONDS, text=True
    ).stdout
    job = json.loads(output[output.index("{") :])["jobs"][0]
    figures = job["read" if "read" in workload.pattern else "write"]
    return Result(figures["iops"], figures["lat_ns"]["percentile"]["99.000000"] / 1000, figures["total_ios"])
