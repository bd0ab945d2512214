"""`readonly`: refuses operations that change the storage below."""

from __future__ import annotations

from dataclasses import replace

from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Extents, Flush, MeasureSpace, Operation, Read, Remote, Steps
from tcmu_runner.scsi.sense import WRITE_PROTECTED, ScsiError
from tcmu_runner.scsi.unit import Capabilities


class ReadOnly(Filter[None]):
    """Makes a write-protected disk of the storage below.

    No options. Example: { filter = "readonly" }
    """

    name = "readonly"

    def capabilities(self, below: Capabilities) -> Capabilities:
        return replace(
            below, write=False, flush=False, unmap=False, unmap_reads_zero=False, write_zeroes=False,
            crypto_erase=False,
        )  # fmt: skip

    def handle(self, operation: Operation) -> Steps:
        """Remote, a copy to another LUN, passes: that LUN has its own write protection."""
        if not isinstance(operation, Read | Flush | Extents | MeasureSpace | Remote):
            raise ScsiError(WRITE_PROTECTED)
        yield operation
