"""A command of the ring: what the engine knows of it beside the SCSI part."""

from __future__ import annotations

from collections.abc import Sequence

from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command


class Job(Command):
    """Made for each command on the ring, so it does not call its base, and has its nexus only when it takes
    the general way.

    id: as the ring's. offset, end (both in bytes), writes: of one that goes the straight path.
    """

    __slots__ = ("end", "offset", "writes")

    offset: int
    end: int
    writes: bool

    def __init__(self, id_: int, cdb: bytes, data: Buffers, data_in: Sequence[memoryview]) -> None:
        self.id = id_
        self.cdb = cdb
        self.data = data
        self.data_in = data_in
        self.row = None
        self.returned = None
        self.descriptor_sense = False
        self.withdrawn = None
        self.began = 0.0
