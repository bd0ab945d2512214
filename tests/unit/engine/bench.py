"""A LUN between a handler of the test and the kernel's side of the ring, in one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from support import waiting
from support.clock import ManualClock

from tcmu_runner import AsyncHandler, Device, Filter, Handler
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.config import Late
from tcmu_runner.iov import Buffers
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Producer, Ticket
from tcmu_runner.scsi.profile import Limits

RING = 8192
AREA = RING + (1 << 20)


class MemoryTransport:
    """Transport over plain memory: the producer is the kernel."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(AREA))
        self.producer = Producer(self.memory, RING)
        self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.kick_error: Exception | None = None

    def area(self) -> memoryview:
        return memoryview(self.memory)

    def fileno(self) -> int:
        return self.event

    def kick(self) -> None:
        if self.kick_error is not None:
            raise self.kick_error
        os.eventfd_write(self.doorbell, 1)

    def close(self) -> None:
        os.close(self.event)
        os.close(self.doorbell)


class Bench:
    """Commands go in with `submit`, `wait` gives their endings. clock: the LUN's, which stands still: a
    storage is fast, however busy the machine is, unless it sleeps by the clock."""

    def __init__(
        self,
        handler: Handler[Any] | AsyncHandler[Any],
        time_out: int | None = None,
        filters: Sequence[Filter[Any]] = (),
        late: Late = Late.LOG,
        restart: Callable[[], None] | None = None,
        limits: Limits | None = None,
        thread: RingThread | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.device = Device("user_0/test", 1 << 20, clock=self.clock)
        description = Description("user_0/test", "test/", 1 << 20, limits=limits or Limits())
        stack = Stack(handler, filters)
        self.lun = Lun(description, stack, self.device, time_out=time_out, late=late)
        self.transport = MemoryTransport()
        self.producer = self.transport.producer
        self.broken: list[Exception] = []
        self._restart = restart
        self._thread = thread or RingThread("ring")
        self.attach()

    def attach(self) -> None:
        self.lun.attach(self.transport, LP64, self.broken.append, restart=self._restart, thread=self._thread)

    def submit(self, cdb: str, data_out: bytes = b"", room: int = 0) -> Ticket:
        ticket = self.producer.submit(bytes.fromhex(cdb), memoryview(data_out), room)
        self.submit_event()
        return ticket

    def submit_event(self) -> None:
        os.eventfd_write(self.transport.event, 1)

    def wait(self, *tickets: Ticket) -> None:
        """Until all of them have ended."""
        self.until(lambda: self.reap(*tickets))

    def reap(self, *tickets: Ticket) -> bool:
        """Whether all of them have ended."""
        self.producer.reap()
        if self.producer.event_due():
            self.submit_event()
        return all(ticket.status is not None for ticket in tickets)

    def run(self, cdb: str, data_out: bytes = b"", room: int = 0) -> Ticket:
        ticket = self.submit(cdb, data_out, room)
        self.wait(ticket)
        return ticket

    def pass_by(self, seconds: float) -> None:
        """Time passes by the LUN's clock, and its owner looks at it."""
        self.clock.advance(seconds)
        self.lun.watch()

    until = staticmethod(waiting.until)

    def pass_until(self, seconds: float, condition: Callable[[], bool]) -> None:
        """So many seconds pass again and again until something is so."""

        def passed() -> bool:
            self.pass_by(seconds)
            return condition()

        self.until(passed)

    def close(self) -> None:
        self.lun.detach()
        self.lun.close()
        self.transport.close()


class Latch:
    """Holds up a storage until a test opens it; begun: it does."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Event(), threading.Event()

    def hold_up(self) -> None:
        self.begun.set()
        assert self.open.wait(60)


class Memory(Handler[str]):
    """A blocking handler over a bytearray, with three threads: the ring's and two others."""

    subtype = "test"
    threads = 3

    def __init__(self) -> None:
        self.disk = bytearray(1 << 20)

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[:] = self.disk[offset : offset + len(buffer)]
            offset += len(buffer)

    def resize(self, size: int) -> None:
        self.disk[size:] = bytes(max(size - len(self.disk), 0))

    def write(self, data: Buffers, offset: int) -> None:
        for buffer in data:
            self.disk[offset : offset + len(buffer)] = buffer
            offset += len(buffer)
