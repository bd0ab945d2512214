"""Handlers and filters whose bytes lie in memory (/dev/shm), each beside what a user would take instead.

One client for all: qemu-img bench, over iSCSI to `tcmu-runner try`, over NBD to the others. What iSCSI itself
costs here, the arm `file` tells: its ratio to qemu-nbd on a plain file. qemu and nbdkit know LUKS1 only; the
cipher and its sectors of 512 bytes are the same as in our volumes for blocks of 512 bytes.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict

from benchmarks import report
from benchmarks.stores import LOCAL, Arm, Server

ROUNDS = 3
SECONDS = 1.0
MEMORY = Path("/dev/shm")
PEERS = [
    ("file", "qemu-nbd"), ("ram", "nbdkit python"), ("luks", "nbdkit luks"), ("luks 4096", "nbdkit luks"),
    ("luks", "qemu-nbd luks"), ("zstd", "qemu-nbd qcow2"), ("qcow", "qemu-nbd qcow2"),
    ("nbd", "qemu-nbd nbd"),
]  # fmt: skip
TIME = re.compile(r"Run completed in ([0-9.]+) seconds")


@dataclass(frozen=True, slots=True)
class Workload:
    """length: bytes of each request. probe: how many are tried to see how many fit into the time."""

    name: str
    length: int
    depth: int
    writes: bool
    probe: int = 100


WORKLOADS = [
    Workload("4k read QD1", 4096, 1, writes=False),
    Workload("4k write QD1", 4096, 1, writes=True),
    Workload("4k read QD32", 4096, 32, writes=False),
    Workload("4k write QD32", 4096, 32, writes=True),
    Workload("128k read QD8", 128 << 10, 8, writes=False, probe=25),
    Workload("128k write QD8", 128 << 10, 8, writes=True, probe=25),
]


class Row(TypedDict):
    """Of each round: requests per second, and CPU time of the server for one of them."""

    arm: str
    workload: str
    iops: list[int]
    cpu_us: list[float]


def bench(server: Server, workload: Workload, seconds: float) -> tuple[int, float]:
    """Requests per second, and microseconds of CPU for one."""
    took = timed(server, workload, workload.probe)
    count = max(workload.probe, min(int(workload.probe / took * seconds), 200_000))
    before = server.cpu()
    took = timed(server, workload, count)
    return round(count / took), round((server.cpu() - before) / count * 1e6, 1)


def timed(server: Server, workload: Workload, count: int) -> float:
    """Seconds for so many requests, scattered over the disk."""
    step = 1009 * workload.length  # of all requests that fit, each is reached before one comes again
    told = subprocess.run(
        [*server.prefix, "qemu-img", "bench", "-f", "raw", "-t", "none", "-c", str(count),
         "-d", str(workload.depth), "-s", str(workload.length), "-S", str(step),
         *(["-w"] if workload.writes else []), server.uri],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = TIME.search(told)
    assert found, told
    return float(found[1])


def measure(arms: Mapping[str, Arm], directory: Path, rounds: int, seconds: float) -> list[Row]:
    """All arms are up all the time; in each round each workload is done on one after the other."""
    rows: dict[tuple[str, str], Row] = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(contextmanager(make)(directory)) for name, make in arms.items()}
        for number in range(rounds):
            print(f"round {number + 1}/{rounds}", file=sys.stderr)
            for workload in WORKLOADS:
                for name, server in servers.items():
                    row = rows.setdefault((name, workload.name), empty(name, workload))
                    iops, cpu_us = bench(server, workload, seconds)
                    row["iops"].append(iops)
                    row["cpu_us"].append(cpu_us)
    return list(rows.values())


def empty(arm: str, workload: Workload) -> Row:
    return {"arm": arm, "workload": workload.name, "iops": [], "cpu_us": []}


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        rows = measure(LOCAL, Path(name), rounds, seconds)
    print(table(rows, PEERS))
    if keep:
        print(f"kept in {report.keep('stored', rows)}")
    return 0


def table(rows: Sequence[Row], peers: Sequence[tuple[str, str]]) -> str:
    """Requests per second and CPU time; ours to the peer's."""
    head = f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}"
    iops = block("requests per second", {key(row): median(row["iops"]) for row in rows}, peers)
    cpu = block(
        "CPU time of the server for one, us",
        {key(row): median(row["cpu_us"]) for row in rows if row["cpu_us"]}, peers,
    )  # fmt: skip
    return f"{head}; medians of the rounds\n\n{iops}\n\n{cpu}"


def key(row: Row) -> tuple[str, str]:
    return row["arm"], row["workload"]


def block(title: str, found: Mapping[tuple[str, str], float], peers: Sequence[tuple[str, str]]) -> str:
    """A line for each arm, and for each of ours what it is to its peer."""
    names = [workload.name for workload in WORKLOADS]
    lines = [title, f"{'':28}" + "".join(f"{name:>16}" for name in names)]
    for arm in dict.fromkeys(arm for arm, _ in found):
        lines.append(f"{arm:28}" + "".join(f"{found[arm, name]:16.0f}" for name in names))
    for mine, peer in peers:
        if (peer, names[0]) in found:
            ratios = [found[mine, name] / max(found[peer, name], 0.1) for name in names]
            lines.append(f"{mine + ' / ' + peer:28}" + "".join(f"{ratio:16.2f}" for ratio in ratios))
    return "\n".join(lines)
