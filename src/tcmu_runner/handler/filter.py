"""Filter: stands between a unit and a handler, and changes operations on their way."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import ClassVar, Generic, Self, TypeVar, cast

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.operations import Operation, Steps
from tcmu_runner.scsi.unit import Capabilities

Options = TypeVar("Options")


class Filter(Generic[Options]):
    """Maps each operation to operations for the layer below. The object is one open filter.

    `handle` is a generator: it yields operations; when the `yield` returns, their results are in their
    buffers, and a failure is raised there. The same code serves inline, threaded and asyncio handlers.
    Several commands may be in it at the same time.

        class ReadOnly(Filter):
            name = "readonly"

            def capabilities(self, below):
                return replace(below, write=False, unmap=False, write_zeroes=False)

            def handle(self, operation):
                if not isinstance(operation, Read | Flush | Extents):
                    raise ScsiError(WRITE_PROTECTED)
                yield operation

    Refuse operations that you do not know: passing one on may bypass what the filter is there for.

    name: as in the settings. threads: 0 if `handle` never blocks; it then runs where the handler's calls do.
    N if it may, for example to encrypt; commands then run on at least N threads. privileges: as a handler's.
    writes: whether commands may change the storage below.
    """

    name: ClassVar[str]
    threads: ClassVar[int] = 0
    privileges: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[bool] = True

    @classmethod
    def describe(cls) -> str:
        """What the filter does, and its options, for people; by default the class's docstring."""
        return (inspect.getdoc(cls) or cls.name).rstrip() + "\n"

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> Options:
        """The typed options in a table of the settings. Must not touch files. Raises ConfigError."""
        if table:
            raise ConfigError(f"it takes no options, found {', '.join(sorted(table))}")
        return cast("Options", None)

    @classmethod
    def open(cls, device: Device, options: Options) -> Self:
        """device: the LUN as this filter's upper side shows it; `device.storage` names the storage below. May
        open files and keys of its own. Not called on the ring's thread. Raises OSError or ConfigError to
        refuse the device."""
        return cls()

    @classmethod
    def size_below(cls, size: int, options: Options) -> int:
        """Bytes that the layer below needs for this one to offer `size`."""
        return size

    @classmethod
    def size_above(cls, size: int, options: Options) -> int:
        """Bytes that this layer offers over `size` bytes below: the inverse of `size_below`."""
        return size

    def start(self) -> Steps:
        """Operations on the layer below, before the first command, such as reading a header. Raises as
        `open`."""
        yield from ()

    def stop(self) -> Steps:
        """Operations on the layer below, after the last command. `close` follows, also if they fail."""
        yield from ()

    def identity(self, below: str) -> str:
        """The identity of the data as seen from above, over the storage `below`: another text if this filter
        changes the bytes. See Plugin.identity; called after `start`."""
        return below

    def capabilities(self, below: Capabilities) -> Capabilities:
        """The stack's capabilities with this filter. below: those without it."""
        return below

    def handle(self, operation: Operation) -> Steps:
        """The operations for the layer below, in order."""
        raise NotImplementedError

    def resized(self, size: int) -> None:
        """The LUN has `size` bytes now, as seen from above."""

    def control(self, table: Mapping[str, object]) -> Mapping[str, object]:
        """Applies an administrator's change while it is open. table: as in the settings; an empty one changes
        nothing. Returns the present settings, and further facts; values are text, numbers, booleans, lists
        and tables. Any thread. Raises ConfigError: nothing has changed then."""
        raise ConfigError(f"filter {self.name} has nothing that can be changed while it is open")

    def close(self) -> None:
        """The last call, after all operations have ended; the layers below are still open."""
