"""Filter: stands between a unit and a handler, and changes operations on their way. Stacks: a handler with
filters above it, under a name that the settings define."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi.operations import Operation, Steps
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.units import LARGEST

if TYPE_CHECKING:
    from tcmu_runner.handler.registry import AnyHandler

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


GROUP = "tcmu_runner.filters"


@dataclass(frozen=True, slots=True)
class Layer:
    """One filter of a stack, not yet open."""

    filter: type[Filter[Any]]
    options: object

    @classmethod
    def parse(cls, name: str, table: Mapping[str, object]) -> Layer:
        """name: the filter's. Raises ConfigError with the reason."""
        found = find(name)
        try:
            return cls(found, found.parse(table))
        except ConfigError as error:
            raise ConfigError(f"filter {name}: {error}") from None

    def size_below(self, size: int) -> int:
        """Bytes that the layer below needs. Raises ConfigError if no storage can have so many."""
        below = self.filter.size_below(size, self.options)
        if below > LARGEST:
            raise ConfigError(
                f"filter {self.filter.name} needs {below} bytes for {size}, more than there can be: "
                "set a smaller dev_size"
            )
        return below

    def size_above(self, size: int) -> int:
        return self.filter.size_above(size, self.options)


@dataclass(frozen=True, slots=True)
class StackDefinition:
    """Opened for a config string like a handler class, but with filters. layers: the topmost first."""

    subtype: str
    handler: AnyHandler
    layers: tuple[Layer, ...] = ()
    description: str = ""

    @property
    def privileges(self) -> frozenset[str]:
        return self.handler.privileges.union(*(layer.filter.privileges for layer in self.layers))

    def describe(self) -> str:
        """The text for D-Bus ConfigDesc: the stack, then the config string of its handler."""
        names = " over ".join([*(layer.filter.name for layer in self.layers), self.handler.subtype])
        told = f"{self.subtype}/CONFIG\n\n{self.description or 'A stack of the settings'}: {names}.\n"
        return f"{told}CONFIG is what follows {self.handler.subtype}/ in:\n\n{self.handler.describe()}"

    def parse(self, config: str) -> object:
        return self.handler.parse(config)

    def probe(self, config: object) -> int | None:
        """Bytes of the LUN over an existing storage."""
        below = self.handler.probe(config)
        return below and reduce(lambda size, layer: layer.size_above(size), reversed(self.layers), below)

    def base_size(self, size: int) -> int:
        """Bytes of the handler's storage for a LUN of `size`."""
        return reduce(lambda above, layer: layer.size_below(above), self.layers, size)


def find(name: str) -> type[Filter[Any]]:
    """The class of a filter of an installed package. Raises ConfigError."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        raise ConfigError(f"no filter {name!r}; there are: {', '.join(sorted(entries)) or 'none'}")
    try:
        found: type[Filter[Any]] = entries[name].load()
    except ImportError as error:
        raise ConfigError(f"filter {name} cannot be used: {error}; install what it needs") from None
    return found
