"""Commands per second through ring, SCSI core and engine, without a kernel: the cost of our own Python.

A producer plays the kernel. It puts the next commands on the ring within the doorbell, so the ring's thread
never waits, and the time spent there is not counted. There are no filters yet, hence none is measured.
"""

import itertools
import os
import platform
import sys
import threading
import time
from mmap import mmap
from statistics import median
from typing import TypedDict

from benchmarks import report
from tcmu_runner.engine.completer import Completer
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.engine.outcome import GOOD, valid_length
from tcmu_runner.engine.storage import Storage, carry_out
from tcmu_runner.handler.api import Handler
from tcmu_runner.handler.registry import Registry
from tcmu_runner.ring.consumer import Consumer, Request
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Producer
from tcmu_runner.scsi.command import Command, Nexus

ROUNDS = 5
SECONDS = 0.5
RING = 1 << 20
DATA = 4 << 20
SIZE = 16 << 20
LENGTH = 4096
BLOCKS = LENGTH // 512
READ_10, WRITE_10 = 0x28, 0x2A
OPCODES = {"read": READ_10, "write": WRITE_10}
HANDLERS = ("null", "ram")
DEPTHS = (1, 32)
STAGES = ("fetch", "begin", "perform", "complete")


class Row(TypedDict):
    """4 KiB commands at a queue depth. per_second: of each round. us: of one command in each stage."""

    handler: str
    command: str
    depth: int
    per_second: list[int]
    us: dict[str, float]


class Load:
    """A producer of one kind of command, and at the same time the engine's transport."""

    def __init__(self, opcode: int, seconds: float = 0.0) -> None:
        self._area = memoryview(mmap(-1, RING + DATA))
        self.producer = Producer(self._area, RING)
        self._opcode = opcode
        self._data = bytes(LENGTH) if opcode == WRITE_10 else b""
        self._lba = 0
        self._wake = os.eventfd(0)
        self._ours, self._done = 0.0, 0
        self._seconds = seconds
        self._returned = 0.0
        self.ended = threading.Event()

    def area(self) -> memoryview:
        return self._area

    def fileno(self) -> int:
        """Never readable: there are always commands on the ring."""
        return self._wake

    def close(self) -> None:
        os.close(self._wake)

    def kick(self) -> None:
        """The doorbell. Completions are taken, and unless the time is over, as many new commands come."""
        now = time.perf_counter()
        ended = self.producer.reap()
        assert not any(ticket.status for ticket in ended), f"a command failed: {ended}"
        if self._done:
            self._ours += now - self._returned
        self._done += len(ended)
        if self._ours > self._seconds:
            self.ended.set()
            return
        self.submit(len(ended))
        self._returned = time.perf_counter()

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
    """Measures all combinations in each round, and prints the table."""
    cases = list(itertools.product(HANDLERS, OPCODES, DEPTHS))
    speeds: dict[tuple[str, str, int], list[int]] = {case: [] for case in cases}
    parts: dict[tuple[str, str, int], list[list[float]]] = {case: [] for case in cases}
    for number in range(rounds):
        print(f"round {number + 1}/{rounds}", file=sys.stderr)
        for case in cases:
            speeds[case].append(throughput(*case, seconds))
            parts[case].append(stages(*case, seconds))
    rows = [row(*case, speeds[case], parts[case]) for case in cases]
    print(table(rows))
    if keep:
        print(f"kept in {report.keep('core', rows)}")
    return 0


def open_lun(handler: str) -> Lun:
    registry = Registry()
    registry.load_entry_points()
    return Lun.open(Description("benchmark", f"{handler}/", SIZE), registry)


def throughput(handler: str, command: str, depth: int, seconds: float) -> int:
    """Commands per second of the whole engine on its ring's thread."""
    load = Load(OPCODES[command], seconds)
    load.submit(depth)
    lun = open_lun(handler)
    lun.attach(load, LP64, raise_it)
    assert load.ended.wait(seconds + 60), "the engine does not serve its ring"
    lun.detach()
    lun.close()
    load.close()
    return load.per_second


def raise_it(error: Exception) -> None:
    raise error


def stages(handler: str, command: str, depth: int, seconds: float) -> list[float]:
    """Seconds per command in each of STAGES, called as the engine does but one stage after the other."""
    load = Load(OPCODES[command])
    lun = open_lun(handler)
    assert isinstance(lun.handler, Handler)
    consumer, nexus = Consumer(load.area(), LP64), Nexus()
    completer = Completer(consumer, lambda: None, raise_it)
    perform = Storage(lun.handler, lun.capabilities).perform
    clock, spent, count = time.perf_counter, [0.0] * len(STAGES), 0
    while sum(spent) < seconds:
        load.submit(depth)
        times = [clock()]
        requests = [request for request in consumer.fetch() if isinstance(request, Request)]
        times.append(clock())
        commands = [Command(r.cdb, r.data, nexus, r.id, r.data_in) for r in requests]
        plans = [lun.unit.begin(command) for command in commands]
        times.append(clock())
        for plan in plans:
            carry_out(plan, perform)
        times.append(clock())
        for done in commands:
            completer.add(done.id, GOOD, valid_length(done, can_tell=True))
        completer.publish()
        times.append(clock())
        spent = [total + end - start for total, start, end in zip(spent, times, times[1:], strict=False)]
        count += len(load.producer.reap())
    lun.close()
    load.close()
    return [total / count for total in spent]


def row(handler: str, command: str, depth: int, speeds: list[int], parts: list[list[float]]) -> Row:
    medians = [round(median(column) * 1e6, 2) for column in zip(*parts, strict=True)]
    us = dict(zip(STAGES, medians, strict=True))
    return {"handler": handler, "command": command, "depth": depth, "per_second": speeds, "us": us}


def table(rows: list[Row]) -> str:
    lines = [f"Python {platform.python_version()}, 4 KiB commands; us of one command in each stage"]
    lines.append(f"{'':16}{'depth':>6}{'per second':>12}" + "".join(f"{stage:>10}" for stage in STAGES))
    for r in rows:
        speed = f"{median(r['per_second']):12.0f}"
        us = "".join(f"{r['us'][stage]:10.2f}" for stage in STAGES)
        lines.append(f"{r['handler'] + ' ' + r['command']:16}{r['depth']:6}{speed}{us}")
    return "\n".join(lines)
