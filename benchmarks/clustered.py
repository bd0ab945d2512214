"""`rbd` and `glfs` beside QEMU's drivers for the same clusters and `rbd bench`, Ceph's own client.

The clusters are on this machine and are most of the work; what differs between the arms is the client. All
but `rbd bench` are asked by qemu-img bench, as in `benchmarks.stored`.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks import report
from benchmarks.stored import WORKLOADS, Row, Workload, empty, measure, table
from benchmarks.stores import SIZE, Clusters

ROUNDS = 3
SECONDS = 2.0
PEERS = [("rbd", "qemu-nbd rbd"), ("rbd", "rbd bench"), ("glfs", "qemu-nbd gluster")]
RATE = re.compile(r"ops/sec: ([0-9.]+)")


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    with tempfile.TemporaryDirectory() as name, closing(Clusters(Path(name))) as clusters:
        rows = measure(clusters.arms, Path(name), rounds, seconds)
        rows += rbd_bench(clusters, rows, rounds, seconds)
    print(table(rows, PEERS))
    if keep:
        print(f"kept in {report.keep('clustered', rows)}")
    return 0


def rbd_bench(clusters: Clusters, others: list[Row], rounds: int, seconds: float) -> list[Row]:
    """As many requests as the others did in the same time, about."""
    rates = {row["workload"]: max(row["iops"]) for row in others if row["arm"] == "qemu-nbd rbd"}
    clusters.ceph.rbd("create", "--size", f"{SIZE}B", "rbd/bench")
    clusters.ceph.rbd("bench", "--io-type", "write", "--io-size", "1M", "--io-total", str(SIZE), "rbd/bench")
    rows = []
    for workload in WORKLOADS:
        row = empty("rbd bench", workload)
        total = int(rates[workload.name] * seconds) * workload.length
        row["iops"] = [one_rbd_bench(clusters, workload, total) for _ in range(rounds)]
        rows.append(row)
    return rows


def one_rbd_bench(clusters: Clusters, workload: Workload, total: int) -> int:
    """Requests per second. total: bytes."""
    told = clusters.ceph.rbd(
        "bench", "--rbd_cache", "false", "--io-type", "write" if workload.writes else "read",
        "--io-size", str(workload.length), "--io-threads", str(workload.depth), "--io-pattern", "rand",
        "--io-total", str(total), "rbd/bench",
    )  # fmt: skip
    return round(float(RATE.findall(told)[-1]))
