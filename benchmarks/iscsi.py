"""The embedded mode's portal beside Debian's tgt: iscsi-perf, 4 KiB random reads, 32 in flight.

Ours serves the handler ram; tgt a file in /dev/shm. Both run at once in processes of their own, and are
measured in turn, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TypedDict

from benchmarks import report

ROUNDS = 5
SECONDS = 5.0
SIZE = 256 << 20
IN_FLIGHT, BLOCKS = 32, 8  # of 512 bytes
NAME = "iqn.2024-01.org.example:bench"
OURS = """
import signal, sys
from tcmu_runner.embedded import Disk, serve
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
with serve(Disk("ram/", int(sys.argv[1]))) as server:
    print(server.url(), flush=True)
    signal.sigwait([signal.SIGTERM])
"""


class Row(TypedDict):
    """One arm. iops: of each round. cpu_us_per_io: of the server's process, median over the rounds."""

    workload: str
    arm: str
    iops: list[float]
    cpu_us_per_io: float


def run(rounds: int, seconds: float, *, keep: bool) -> int:
    """Measures and prints; the exit status."""
    with ExitStack() as stack:
        arms = {"ours": stack.enter_context(ours()), "tgt": stack.enter_context(tgt())}
        found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
        for _ in range(rounds):
            for arm, (url, process) in arms.items():
                found[arm].append(measure(url, process, seconds))
    rows = [
        Row(
            workload="4k random read, 32 in flight",
            arm=arm,
            iops=[round(iops) for iops, _ in figures],
            cpu_us_per_io=round(median(cpu for _, cpu in figures), 1),
        )
        for arm, figures in found.items()
    ]
    print(table(rows))
    if keep:
        print(f"\nkept in {report.keep('iscsi', rows)}")
    return 0


def table(rows: list[Row]) -> str:
    lines = [f"{'':8}{'IOPS':>10}{'CPU us/IO':>12}"]
    lines += [f"{row['arm']:8}{median(row['iops']):10.0f}{row['cpu_us_per_io']:12.1f}" for row in rows]
    ratios = [one / other for one, other in zip(rows[0]["iops"], rows[1]["iops"], strict=True)]
    return "\n".join([*lines, f"ours/tgt {median(ratios):8.2f}  (median of the rounds' ratios)"])


def measure(url: str, process: int, seconds: float) -> tuple[float, float]:
    """IOPS by iscsi-perf's own average, and CPU time of the server's process in us for each I/O."""
    before = cpu_seconds(process)
    command = ["iscsi-perf", "-m", str(IN_FLIGHT), "-b", str(BLOCKS), "-r", url]
    perf = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(seconds)
    perf.terminate()  # it ends by itself at SIGTERM, with its last line printed
    output, _ = perf.communicate(timeout=30)
    averages = re.findall(r"iops average (\d+)", output)
    iops = float(averages[-1])
    return iops, (cpu_seconds(process) - before) / (iops * seconds) * 1e6


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def ours() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-c", OURS, str(SIZE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server.pid
        finally:
            server.terminate()


@contextmanager
def tgt() -> Iterator[tuple[str, int]]:
    """A daemon of its own, by another control port than the system's."""
    port, control = free_port(), "17"
    with (
        tempfile.NamedTemporaryFile(dir="/dev/shm") as file,
        subprocess.Popen(["tgtd", "-f", "-C", control, "--iscsi", f"portal=127.0.0.1:{port}"]) as server,
    ):
        file.truncate(SIZE)
        try:
            admin = ["tgtadm", "-C", control, "--lld", "iscsi"]
            wait_for(admin)
            for more in (
                f"--op new --mode target --tid 1 -T {NAME}",
                f"--op new --mode logicalunit --tid 1 --lun 1 -b {file.name}",
                "--op bind --mode target --tid 1 -I ALL",
            ):
                subprocess.run([*admin, *more.split()], check=True)
            yield f"iscsi://127.0.0.1:{port}/{NAME}/1", server.pid
        finally:
            server.kill()  # tgtd does not end by SIGTERM while it has targets


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(admin: list[str]) -> None:
    """Until tgtd answers tgtadm."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(subprocess.CalledProcessError):
            subprocess.run([*admin, "--op", "show", "--mode", "system"], check=True, capture_output=True)
            return
        time.sleep(0.05)
    raise TimeoutError("tgtd does not answer")
