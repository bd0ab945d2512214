"""A dry run of taking over a device, so that a spare worker has touched the memory it will need.

A forked process copies each page at its first write, and Python writes reference counts to every object it
uses. A worker that has served a device before takes one over several times faster (docs/adr/0027).
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from tcmu_runner.engine.observe import statistics
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioDevice
from tcmu_runner.ring.producer import Producer
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.workers.lun import KernelLun
from tcmu_runner.workers.protocol import Done, Serve, decode, encode

RING, DATA = 4096, 65536
SIZE = 1 << 20
BACKSTORE = {
    "attrib/alua_support": "1",
    "attrib/dev_size": f"{SIZE}",
    "attrib/hw_block_size": "512",
    "attrib/hw_max_sectors": "128",
    "wwn/vpd_unit_serial": "rehearsal",
}
COMMANDS = (  # (CDB, Data-Out, bytes of Data-In expected)
    (DISK.row("INQUIRY").cdb(length=36), b"", 36),
    (DISK.row("READ(10)").cdb(0, 8), b"", 4096),
    (DISK.row("WRITE(10)").cdb(0, 8), bytes(4096), 0),
)
SILENT_SECONDS = 5.0  # without a completion, after which the dry run is given up

log = logging.getLogger(__name__)


class _Stage(UioDevice):
    """A UIO device in plain memory, of this process only."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(0, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), paths)
        self._memory = os.memfd_create("rehearsal")
        os.ftruncate(self._memory, RING + DATA)
        self.producer = Producer(memoryview(self.map()), RING)
        self.rung = threading.Event()

    def map(self) -> mmap.mmap:
        return mmap.mmap(self._memory, RING + DATA)

    def kick(self) -> None:
        """On the ring's thread: `_perform` waits for it."""
        self.rung.set()

    def close(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        super().close()


def warm_up() -> None:
    """Takes over a device of an imitated kernel, serves a few commands and closes it. If that fails,
    replacing a dead worker takes longer; nothing else changes."""
    try:
        with TemporaryDirectory(prefix="tcmu-rehearsal-") as directory:
            _perform(Path(directory))
    except OSError as error:
        log.warning("no warm-up for spare workers: %s: replacing a dead worker takes longer", error)
    gc.collect()  # the dry run leaves objects in reference cycles


def _perform(directory: Path) -> None:
    paths = Paths.under(directory)
    for file, text in BACKSTORE.items():
        path = paths.target / "core/user_0/rehearsal" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    registry = Registry()
    registry.add(FileHandler)
    stage = _Stage(paths)
    producer = stage.producer
    request = decode(encode(Serve(1, 0, f"tcm-user/0/rehearsal/file/{directory}/disk.img")))
    assert isinstance(request, Serve)
    name = DeviceName.parse(request.name)
    state = os.memfd_create("rehearsal"), os.memfd_create("rehearsal")
    lun = KernelLun(stage, statistics.create(), name, registry, paths, overrides=Overrides(), state=state)
    lun.open()
    tickets = [producer.submit(cdb, out, length) for cdb, out, length in COMMANDS]
    lun.attach(RingThread("rehearsal"), lambda _error: None)
    while any(ticket.status is None for ticket in tickets) and stage.rung.wait(SILENT_SECONDS):
        stage.rung.clear()
        producer.reap()
    lun.close()
    encode(Done(request.id, size=SIZE, block_size=512))
