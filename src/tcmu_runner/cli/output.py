"""Output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib.util import find_spec
from typing import Any

from tcmu_runner.cli.optional import need
from tcmu_runner.printable import NO_UTF8, printable, utf8

WHOLE_LINES = 1 << 20  # columns, more than a line of a table ever has


def tell(text: str) -> None:
    """Prints one line for a person."""
    print(printable(text))


def print_json(value: object) -> None:
    """Prints JSON; keys are the names in D-Bus and metrics."""
    text = json.dumps(value, default=_plain, indent=2, ensure_ascii=False)
    print(NO_UTF8.sub(lambda found: json.dumps(utf8(found[0]))[1:-1], text))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    return str(value)


def console() -> Any:
    """rich's, of standard output. Where that is no terminal another program reads it: no colours, and lines
    stay whole."""
    width = None if sys.stdout.isatty() else WHOLE_LINES
    return need("rich.console").Console(highlight=False, width=width)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[str] = (),
    gap: int = 2,
    headed: bool = True,
) -> Any:
    """A rich table. right: right-aligned columns. Long cells are folded, so that nothing is lost."""
    made = need("rich.table").Table(
        box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0), show_header=headed
    )
    for name in columns:
        numbers = name in right
        made.add_column(name, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
    text = need("rich.text").Text
    for row in rows:
        made.add_row(*(cell if isinstance(cell, text) else text(printable(str(cell))) for cell in row))
    return made


class Fitting:
    """For a console: the first of several tables that fits the terminal without folding, else the last. Makes
    only as many of them as it has to measure."""

    def __init__(self, makers: Sequence[Callable[[], Any]]) -> None:
        self._makers = makers

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        measure, unlimited = need("rich.measure").Measurement.get, options.update(max_width=10_000)
        for make in self._makers:
            made = make()
            if measure(console, unlimited, made).maximum <= options.max_width:
                break
        yield made


def styled(text: str, style: str) -> Any:
    return need("rich.text").Text(printable(text), style=style)


def show(renderable: Any) -> None:
    console().print(renderable)


@contextmanager
def progress(doing: str) -> Iterator[Callable[[str], None]]:
    """Shows at a terminal, on standard error, what the command waits for and how long; removed at the end.
    Yields a function: call it with the next step's text."""
    if not (sys.stderr.isatty() and find_spec("rich")):  # not a terminal
        yield lambda _doing: None
        return
    rich, terminal = need("rich.progress"), need("rich.console").Console(stderr=True)
    columns = rich.SpinnerColumn(), rich.TextColumn("{task.description}"), rich.TimeElapsedColumn()
    with rich.Progress(*columns, console=terminal, transient=True) as shown:
        task = shown.add_task(need("rich.markup").escape(doing))
        yield lambda doing: shown.update(task, description=need("rich.markup").escape(doing))
