"""[stacks.NAME] of the settings: a handler with filters above it, under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.filter import Layer
from tcmu_runner.settings.lines import about, refuse_unknown, text


@dataclass(frozen=True, slots=True)
class StackSettings:
    """A handler with filters above it. name: its name in config strings. layers: the topmost first. table: as
    in the file."""

    name: str
    handler: str
    layers: tuple[Layer, ...]
    description: str
    table: Mapping[str, object]

    @classmethod
    def parse(cls, name: str, table: object) -> StackSettings:
        """Raises ConfigError."""
        where = f"stacks.{name}"
        with about("stacks", name):
            if not isinstance(table, dict):
                raise ConfigError(f"{where} is a table: write [{where}]")
            refuse_unknown(("stacks", name), table, {"handler", "filters", "description"})
            handler = text(f"{where}.handler", table.get("handler"))
            if handler is None:
                raise ConfigError(f'{where}: which handler is below the filters? Write handler = "file"')
        with about("stacks", name, "description"):
            description = text(f"{where}.description", table.get("description")) or ""
        with about("stacks", name, "filters"):
            layers = table.get("filters", [])
            if not isinstance(layers, list):
                example = '[{ filter = "readonly" }]'
                raise ConfigError(f"{where}.filters: write a list, topmost first: {example}")
            return cls(name, handler, tuple(_layer(where, layer) for layer in layers), description, table)


def _layer(where: str, table: object) -> Layer:
    if not isinstance(table, dict) or not isinstance(name := table.get("filter"), str):
        raise ConfigError(f'{where}.filters: write each as {{ filter = "NAME", option = value }}')
    try:
        return Layer.parse(name, {key: value for key, value in table.items() if key != "filter"})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
