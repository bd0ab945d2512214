"""Handlers and filters for the documentation, generated from their classes."""

from importlib.metadata import entry_points
from typing import Protocol

from tcmu_runner.handler.filter import GROUP as FILTERS
from tcmu_runner.handler.registry import GROUP as HANDLERS


class _Described(Protocol):
    def describe(self) -> str: ...


def handlers() -> str:
    """Markdown, a section for each installed handler."""
    return _sections(HANDLERS)


def filters() -> str:
    """Markdown, a section for each installed filter."""
    return _sections(FILTERS)


def _sections(group: str) -> str:
    found = sorted(entry_points(group=group), key=lambda entry: entry.name)
    return "\n".join(_section(entry.name, entry.load()) for entry in found if entry.dist is not None)


def _section(name: str, described: _Described) -> str:
    text = "".join(f"    {line}".rstrip() + "\n" for line in described.describe().splitlines())
    return f"## {name}\n\n{text}"
