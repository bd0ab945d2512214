"""Filters: what stands between a unit and a handler and changes operations on their way."""

from __future__ import annotations

from tcmu_runner.scsi.operations import Operation, Steps
from tcmu_runner.scsi.unit import Capabilities


class Filter:
    """Maps each operation to the operations that go to the layer below. The object is one open filter.

    `handle` is a generator: it yields operations, whose results are in their buffers when the `yield`
    returns and whose failures are raised there. The same text serves inline, threaded and asyncio handlers,
    so it must not block; commands may be in it side by side.

        class ReadOnly(Filter):
            def capabilities(self, below):
                return replace(below, write=False, unmap=False, write_zeroes=False)

            def handle(self, operation):
                if not isinstance(operation, Read | Flush | Extents):
                    raise ScsiError(WRITE_PROTECTED)
                yield operation

    Refuse operations you do not know: passing one on may go round what the filter is there for.
    """

    def capabilities(self, below: Capabilities) -> Capabilities:
        """What the stack can do with this filter in it; `below`: what it can without."""
        return below

    def handle(self, operation: Operation) -> Steps:
        """The operations for the layer below, in order."""
        raise NotImplementedError
