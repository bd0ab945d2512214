"""Stacks: a handler with filters above it, under a name that the settings define."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.filter import Filter
from tcmu_runner.units import LARGEST

if TYPE_CHECKING:
    from tcmu_runner.handler.registry import AnyHandler

GROUP = "tcmu_runner.filters"


@dataclass(frozen=True, slots=True)
class Layer:
    """One filter of a stack, not yet open."""

    filter: type[Filter[object]]
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


def find(name: str) -> type[Filter[object]]:
    """The class of a filter of an installed package. Raises ConfigError."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        raise ConfigError(f"no filter {name!r}; there are: {', '.join(sorted(entries)) or 'none'}")
    try:
        found: type[Filter[object]] = entries[name].load()
    except ImportError as error:
        raise ConfigError(f"filter {name} cannot be used: {error}; install what it needs") from None
    return found
