"""Commands per second through ring, SCSI core and engine, without a kernel: the cost of our own Python.

A producer plays the kernel. It puts the next commands on the ring within the doorbell, so the ring's thread
never waits, and the time spent there is not counted. The stages are measured apart, on what each package
offers to the engine; what a whole command takes beyond their sum is the engine's own. Processor time is
measured, so that other load of the machine hardly shows, and the best round counts.
"""

import itertools
import os
import platform
import sys
import threading
import time
from mmap import mmap
from typing import NamedTuple, TypedDict

from benchmarks import report
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.api import Handler
from tcmu_runner.handler.filter import Filter
from tcmu_runner.handler.registry import Registry
from tcmu_runner.ring.consumer import Consumer, Request
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Producer
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import Operation, Read, Steps, Write

ROUNDS = 5
SECONDS = 0.2
RING = 1 << 20
DATA = 4 << 20
SIZE = 16 << 20
LENGTH = 4096
BLOCKS = LENGTH // 512
READ_10, WRITE_10 = DISK.row("READ(10)").opcode, DISK.row("WRITE(10)").opcode
OPCODES = {"read": READ_10, "write": WRITE_10}
HANDLERS = ("null", "ram")
DEPTHS = (1, 32)
FILTERS = (0, 1, 5)
STAGES = ("fetch", "begin", "perform", "complete")


class Case(NamedTuple):
    """4 KiB commands at a queue depth, through so many filters that pass everything on."""

    handler: str
    command: str
    depth: int
    filters: int


class Row(TypedDict):
    """A case. per_second: commands, of each round. us: of one command in each stage, without filters."""

    handler: str
    command: str
    depth: int
    filters: int
    per_second: list[int]
    us: dict[str, float]


class PassThrough(Filter[None]):
    """Hands everything on. Counts as one of ours: what zeroing the buffers of a foreign one takes is in
    docs/adr/0017."""

    __module__ = Filter.__module__

    def handle(self, operation: Operation) -> Steps:
        yield operation


class Load:
    """A producer of one kind of command, and at the same time the engine's transport."""

    def __init__(self, opcode: int, seconds: float = 0.0) -> None:
        self._area = memoryview(mmap(-1, RING + DATA))
        self.producer = Producer(self._area, RING)
        self._opcode = opcode
        self._data = bytes(LENGTH) if opcode == WRITE_10 else b""
        self._lba = 0
        self._wake_fd = os.eventfd(0)
        self._ours, self._done = 0.0, 0
        self._seconds = seconds
        self._returned = 0.0
        self.ended = threading.Event()

    def area(self) -> memoryview:
        return self._area

    def fileno(self) -> int:
        """Never readable: there are always commands on the ring."""
        return self._wake_fd

    def close(self) -> None:
        os.close(self._wake_fd)

    def kick(self) -> None:
        """The doorbell. Completions are taken, and unless the time is over, as many new commands come."""
        now = time.thread_time()
        ended = self.producer.reap()
        assert not any(ticket.status for ticket in ended), f"a command failed: {ended}"
        if self._done:
            self._ours += now - self._returned
        self._done += len(ended)
        if self._ours > self._seconds:
            self.ended.set()
            return
        self.submit(len(ended))
        self._returned = time.thread_time()

    def submit(self, count: int) -> None:
        """Commands at scattered addresses."""
        for _ in range(count):
            self._lba = (self._lba + 1009 * BLOCKS) % (SIZE // 512)
            cdb = bytes((self._opcode, 0, *self._lba.to_bytes(4), 0, 0, BLOCKS, 0))
            self.producer.submit(cdb, self._data, 0 if self._data else LENGTH)

    @property
    def per_second(self) -> int:
        return round(self._done / self._ours)


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    """Measures all cases in each round, and prints the table."""
    cases = [Case(*case) for case in itertools.product(HANDLERS, OPCODES, DEPTHS, FILTERS)]
    speeds: dict[Case, list[int]] = {case: [] for case in cases}
    parts: dict[Case, list[list[float]]] = {case: [] for case in cases}
    for number in range(rounds):
        print(f"round {number + 1}/{rounds}", file=sys.stderr)
        for case in cases:
            speeds[case].append(throughput(case, seconds))
            if not case.filters:
                parts[case].append(stages(case, seconds))
    rows = [row(case, speeds[case], parts[case]) for case in cases]
    print(table(rows))
    if keep:
        print(f"kept in {report.keep('core', rows)}")
    return 0


def open_lun(case: Case) -> Lun:
    registry = Registry()
    registry.load_entry_points()
    lun = Lun.open(Description("benchmark", f"{case.handler}/", SIZE), registry)
    filters = [PassThrough() for _ in range(case.filters)]
    return Lun(lun.description, Stack(lun.stack.handler, filters), lun.device)


def throughput(case: Case, seconds: float) -> int:
    """Commands per second of the whole engine on its ring's thread."""
    load = Load(OPCODES[case.command], seconds)
    load.submit(case.depth)
    lun = open_lun(case)
    lun.attach(load, LP64, raise_it, thread=RingThread("benchmark"))
    assert load.ended.wait(seconds + 60), "the engine does not serve its ring"
    lun.detach()
    lun.close()
    load.close()
    return load.per_second


def raise_it(error: Exception) -> None:
    raise error


def stages(case: Case, seconds: float) -> list[float]:
    """Seconds per command in each of STAGES, called one after the other on a batch."""
    load = Load(OPCODES[case.command])
    lun = open_lun(case)
    assert isinstance(lun.stack.handler, Handler)
    consumer, nexus = Consumer(load.area(), LP64), Nexus()
    clock, spent, count = time.thread_time, [0.0] * len(STAGES), 0
    while sum(spent) < seconds:
        load.submit(case.depth)
        times = [clock()]
        requests = [request for request in consumer.fetch() if isinstance(request, Request)]
        times.append(clock())
        plans = [lun.unit.begin(Command(r.cdb, r.data, nexus, r.id, r.data_in)) for r in requests]
        times.append(clock())
        for plan in plans:
            perform(lun.stack.handler, plan)
        times.append(clock())
        for request in requests:
            consumer.complete(request.id)
        consumer.publish()
        times.append(clock())
        spent = [total + end - start for total, start, end in zip(spent, times, times[1:], strict=False)]
        count += len(load.producer.reap())
    lun.close()
    load.close()
    return [total / count for total in spent]


def perform(handler: Handler[object], plan: object) -> None:
    match plan:
        case Read():
            handler.read(plan.into, plan.offset)
        case Write():
            handler.write(plan.data, plan.offset)


def row(case: Case, speeds: list[int], parts: list[list[float]]) -> Row:
    us = {
        stage: round(min(column) * 1e6, 2)
        for stage, column in zip(STAGES, zip(*parts, strict=True), strict=False)
    }
    return {
        "handler": case.handler, "command": case.command, "depth": case.depth, "filters": case.filters,
        "per_second": speeds, "us": us,
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    lines = [
        f"Python {platform.python_version()}, 4 KiB commands; us of one command in each stage; the best round"
    ]
    columns = ("depth", "filters", "per second", "us", *STAGES)
    lines.append(f"{'':16}" + "".join(f"{column:>11}" for column in columns))
    for r in rows:
        speed = max(r["per_second"])
        cells = [f"{r['depth']:11}{r['filters']:11}{speed:11.0f}{1e6 / speed:11.2f}"]
        cells += [f"{r['us'][stage]:11.2f}" for stage in STAGES if r["us"]]
        lines.append(f"{r['handler'] + ' ' + r['command']:16}{''.join(cells)}")
    return "\n".join(lines)
