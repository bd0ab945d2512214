"""Options of filters, from the tables of the settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, get_type_hints

from tcmu_runner.errors import ConfigError
from tcmu_runner.units import parse_size

Parsed = TypeVar("Parsed")


def parse_table(into: type[Parsed], table: Mapping[str, object]) -> Parsed:
    """Turns a table into a dataclass with fields of type bool, int (a number, or text with K, M, G), float,
    str or Path (absolute).

    Raises ConfigError with the option's name and what would be right. The dataclass itself checks what
    concerns more than one value.
    """
    types: dict[str, type] = get_type_hints(into)
    unknown = sorted(set(table) - set(types))
    if unknown:
        raise ConfigError(f"no option {unknown[0]!r}; there are: {', '.join(sorted(types))}")
    for name, parameter in inspect.signature(into).parameters.items():
        if parameter.default is parameter.empty and name not in table:
            raise ConfigError(f"option {name!r} is missing")
    return into(**{name: _value(name, types[name], value) for name, value in table.items()})


def _value(name: str, kind: type, value: object) -> object:
    if kind is int and isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise ConfigError(f"option {name}: {error}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is Path:
        if not (isinstance(value, str) and value.startswith("/")):
            raise ConfigError(f"option {name} = {value!r}: write an absolute path")
        return Path(value)
    if type(value) is not kind:
        what = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
        raise ConfigError(f"option {name} = {value!r}: write {what.get(kind, kind.__name__)}")
    if isinstance(value, int | float) and value < 0:
        raise ConfigError(f"option {name} = {value!r}: write a number from 0")
    return value
