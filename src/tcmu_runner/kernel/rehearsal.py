"""A dry run of serving a LUN, so that a spare worker has touched the memory it will need.

A forked process copies each page at its first write to it, and Python writes to every object it looks at. A
worker that has served a command before is several times faster at taking over a device (docs/adr/0004).
"""

from __future__ import annotations

import mmap
import os
import time

from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.null import NullHandler
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Producer

RING, DATA = 4096, 65536
SIZE = 1 << 20
COMMANDS = ("120000002400", "280000000000000800", "2a0000000000000800")  # INQUIRY, READ(10), WRITE(10)
GIVE_UP_SECONDS = 5.0


class _Stage:
    """A ring in plain memory."""

    def __init__(self) -> None:
        self.memory = memoryview(mmap.mmap(-1, RING + DATA))
        self.producer = Producer(self.memory, RING)
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def area(self) -> memoryview:
        return self.memory

    def fileno(self) -> int:
        return self._event

    def kick(self) -> None:
        """The other side looks by itself."""

    def close(self) -> None:
        os.close(self._event)


def rehearse() -> None:
    """Serves a few commands of a LUN that stores nothing, to the end of the LUN."""
    stage = _Stage()
    registry = Registry()
    registry.add(NullHandler)
    lun = Lun.open(Description("rehearsal", "null/", SIZE), registry)
    tickets = [stage.producer.submit(bytes.fromhex(cdb).ljust(10, b"\0"), b"", 4096) for cdb in COMMANDS]
    lun.attach(stage, LP64, lambda _error: None)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while any(ticket.status is None for ticket in tickets) and time.monotonic() < deadline:
        time.sleep(0.001)
        stage.producer.reap()
    lun.detach()
    lun.close()
    stage.close()
