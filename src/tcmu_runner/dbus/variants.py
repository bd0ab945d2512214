"""Tables as a{sv}, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dbus_fast import Variant

from tcmu_runner.printable import utf8


def packed(body: Iterable[object]) -> list[object]:
    """Arguments or results of a method; tables among them become a{sv}."""
    return [pack(each) if isinstance(each, Mapping) else each for each in body]


def pack(table: Mapping[str, object]) -> dict[str, Variant]:
    """A table as a{sv}: text, numbers, booleans, lists and tables."""
    return {utf8(name): _variant(value) for name, value in table.items()}


def _variant(value: object) -> Variant:
    match value:
        case bool():
            return Variant("b", value)
        case int():
            return Variant("x", value)
        case float():
            return Variant("d", value)
        case str():
            return Variant("s", utf8(value))
        case list() | tuple():
            return Variant("av", [_variant(each) for each in value])
        case Mapping():
            return Variant("a{sv}", pack(value))
    raise TypeError(f"{value!r} has no type of D-Bus")
