"""`luks` and `zstd` in memory (/dev/shm), beside what a user would take instead on the same memory.

One client for all: qemu-img bench, over iSCSI to `tcmu-runner try`, over NBD to the others. What iSCSI itself
costs here, the arm `file` tells: its ratio to qemu-nbd on a plain file. qemu and nbdkit know LUKS1 only; the
cipher and its sectors of 512 bytes are the same as in our volumes for blocks of 512 bytes.
"""

from __future__ import annotations

import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypedDict

from benchmarks import report
from tcmu_runner.engine.stack import Stack
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handler.stack import Layer
from tcmu_runner.scsi.operations import Flush, Write

ROUNDS = 3
SECONDS = 1.0
SIZE = 64 << 20
MEMORY = Path("/dev/shm")
PROGRAM = Path(sys.executable).with_name("tcmu-runner")
KEY = "a passphrase"
QUICK: dict[str, object] = {"create": True, "kdf": "pbkdf2", "kdf_time": 1000}
PEERS = {"file": "qemu-nbd", "luks": "nbdkit luks", "luks 4096": "nbdkit luks", "zstd": "qemu-nbd qcow2"}
URI = re.compile(r"^  (iscsi://\S+)$")
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


Arm = Callable[[Path], Iterator["Server"]]


class Server(NamedTuple):
    """pid: of the process that answers at the URI."""

    uri: str
    pid: int

    def cpu(self) -> float:
        """Seconds that it has used so far, threads that have ended included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def content(offset: int, length: int) -> bytes:
    """Half of it compresses well."""
    piece = random.Random(offset).randbytes(2048)
    return (piece + bytes(2048)) * (length // 4096)


def ours(handler: str, *, luks: bool = False, block_size: int = 512) -> Arm:
    """A LUN of the embedded mode."""

    def arm(directory: Path) -> Iterator[Server]:
        registry = Registry()
        registry.load_entry_points()
        layers = (Layer.parse("luks", {"key_file": f"{directory}/key", **QUICK}),) if luks else ()
        registry.add_stack("measured", handler, layers)
        offer, parts = registry.find(f"measured/{directory}/{handler}{block_size}{luks}")
        stack = Stack.open(offer, offer.parse(parts.rest), Device("benchmark", SIZE, block_size))
        perform = stack.perform()
        for at in range(0, SIZE, 1 << 20):
            perform(Write(at, [memoryview(bytearray(content(at, 1 << 20)))]))
        perform(Flush())
        stack.close()
        options = ["--filter", f"luks key_file={directory}/key"] if luks else []
        program = [
            str(PROGRAM), "try", handler, parts.rest, "--size", str(SIZE),
            "--block-size", str(block_size), *options,
        ]  # fmt: skip
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            uri = next(found[1] for line in process.stdout if (found := URI.match(line)))
            yield Server(uri, process.pid)
            process.terminate()

    return arm


def served_by(make_image: Sequence[str], server: Sequence[str]) -> Arm:
    """An NBD server. DIR, in both commands, is the directory; the server listens on DIR/socket."""

    def arm(directory: Path) -> Iterator[Server]:
        with tempfile.TemporaryDirectory(dir=directory) as own:
            (Path(own) / "key").write_text(KEY)
            do(make_image, own)
            fill(own, make_image)
            with subprocess.Popen([word.replace("DIR", own) for word in server]) as process:
                while not Path(own, "socket").exists():
                    assert process.poll() is None, f"{server[0]} has ended"
                    time.sleep(0.02)
                yield Server(f"nbd+unix:///?socket={own}/socket", process.pid)
                process.terminate()

    return arm


def fill(own: str, make_image: Sequence[str]) -> None:
    """The same content as ours."""
    raw = Path(own, "raw")
    raw.write_bytes(b"".join(content(at, 1 << 20) for at in range(0, SIZE, 1 << 20)))
    kind = make_image[make_image.index("-f") + 1]
    target = (
        "driver=luks,key-secret=k,file.filename=DIR/image"
        if kind == "luks"
        else f"driver={kind},file.filename=DIR/image"
    )
    do(["qemu-img", "convert", "-n", *SECRET, "--image-opts", "--target-image-opts",
         "driver=raw,file.filename=DIR/raw", target], own)  # fmt: skip
    raw.unlink()


def do(words: Sequence[str], own: str) -> None:
    subprocess.run([word.replace("DIR", own) for word in words], check=True, stdout=subprocess.DEVNULL)


SECRET = ["--object", "secret,id=k,file=DIR/key"]
MAKE_LUKS = [
    *("qemu-img", "create", *SECRET, "-f", "luks", "-o", "key-secret=k,iter-time=10", "DIR/image", str(SIZE))
]
ARMS: dict[str, Arm] = {
    "file": ours("file"),
    "qemu-nbd": served_by(
        ["qemu-img", "create", "-f", "raw", "DIR/image", str(SIZE)],
        ["qemu-nbd", "-t", "-k", "DIR/socket", "-f", "raw", "DIR/image"],
    ),
    "luks": ours("file", luks=True),
    "luks 4096": ours("file", luks=True, block_size=4096),
    "nbdkit luks": served_by(
        MAKE_LUKS,
        ["nbdkit", "-f", "-U", "DIR/socket", "--filter=luks", "file", "DIR/image", "passphrase=+DIR/key"],
    ),
    "qemu-nbd luks": served_by(
        MAKE_LUKS,
        ["qemu-nbd", "-t", "-k", "DIR/socket", *SECRET, "--image-opts",
         "driver=luks,key-secret=k,file.filename=DIR/image"],
    ),
    "zstd": ours("zstd"),
    "qemu-nbd qcow2": served_by(
        ["qemu-img", "create", "-f", "qcow2", "DIR/image", str(SIZE)],
        ["qemu-nbd", "-t", "-k", "DIR/socket", "-f", "qcow2", "DIR/image"],
    ),
}  # fmt: skip


def bench(server: Server, workload: Workload, seconds: float) -> tuple[int, float]:
    """Requests per second, and microseconds of CPU for one."""
    took = timed(server.uri, workload, workload.probe)
    count = max(workload.probe, min(int(workload.probe / took * seconds), 200_000))
    before = server.cpu()
    took = timed(server.uri, workload, count)
    return round(count / took), round((server.cpu() - before) / count * 1e6, 1)


def timed(uri: str, workload: Workload, count: int) -> float:
    """Seconds for so many requests, scattered over the disk."""
    step = 1009 * workload.length  # of all requests that fit, each is reached before one comes again
    told = subprocess.run(
        ["qemu-img", "bench", "-f", "raw", "-t", "none", "-c", str(count), "-d", str(workload.depth),
         "-s", str(workload.length), "-S", str(step), *(["-w"] if workload.writes else []), uri],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = TIME.search(told)
    assert found, told
    return float(found[1])


def run_all(rounds: int, seconds: float) -> list[Row]:
    """All arms are up all the time; in each round each workload is done on one after the other."""
    rows: dict[tuple[str, str], Row] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, ExitStack() as stack:
        (Path(name) / "key").write_text(KEY)
        servers = {arm: stack.enter_context(contextmanager(make)(Path(name))) for arm, make in ARMS.items()}
        for number in range(rounds):
            print(f"round {number + 1}/{rounds}", file=sys.stderr)
            for workload in WORKLOADS:
                for arm, server in servers.items():
                    row = rows.setdefault(
                        (arm, workload.name),
                        {"arm": arm, "workload": workload.name, "iops": [], "cpu_us": []},
                    )
                    iops, cpu_us = bench(server, workload, seconds)
                    row["iops"].append(iops)
                    row["cpu_us"].append(cpu_us)
    return list(rows.values())


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    rows = run_all(rounds, seconds)
    print(table(rows))
    if keep:
        print(f"kept in {report.keep('stored', rows)}")
    return 0


def table(rows: list[Row]) -> str:
    """Requests per second and CPU time; ours to the peer's."""
    head = f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}"
    iops = block("requests per second", {key(row): median(row["iops"]) for row in rows})
    cpu = block("CPU time of the server for one, us", {key(row): median(row["cpu_us"]) for row in rows})
    return f"{head}; medians of the rounds\n\n{iops}\n\n{cpu}"


def key(row: Row) -> tuple[str, str]:
    return row["workload"], row["arm"]


def block(title: str, found: dict[tuple[str, str], float]) -> str:
    heads = "".join(f"{arm:>15}" for arm in ARMS) + "".join(f"{'/'.join(pair):>24}" for pair in PEERS.items())
    lines = [title, f"{'':16}{heads}"]
    for workload in WORKLOADS:
        cells = [f"{found[workload.name, arm]:15.0f}" for arm in ARMS]
        cells += [
            f"{found[workload.name, mine] / max(found[workload.name, peer], 0.1):24.2f}"
            for mine, peer in PEERS.items()
        ]
        lines.append(f"{workload.name:16}{''.join(cells)}")
    return "\n".join(lines)
