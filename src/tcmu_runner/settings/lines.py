"""Line numbers of settings in a TOML file: tomllib does not report them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tcmu_runner.errors import ConfigError


class SettingError(ConfigError):
    """path: names of the tables and the setting that is wrong, from the outermost."""

    def __init__(self, message: str, path: tuple[str, ...]) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def about(*path: str) -> Iterator[None]:
    """Adds the setting's path to a ConfigError that is raised inside, unless it has a more exact one."""
    try:
        yield
    except SettingError:
        raise
    except ConfigError as error:
        raise SettingError(str(error), path) from None


def line_of(text: str, path: Sequence[str]) -> int:
    """The line, from 1, on which a setting of a valid file begins.

    Parses ever longer beginnings of the file: the setting begins where the first one contains it. Beginnings
    that end within a value of several lines cannot be parsed, and are skipped.
    """
    lines = text.splitlines()
    read_before = 0
    for count in range(len(lines) + 1):
        try:
            found = _has(tomllib.loads("\n".join(lines[:count])), path)
        except tomllib.TOMLDecodeError:
            continue
        if found:
            return _first_with_content(lines, read_before) + 1
        read_before = count
    return 1


def _has(tables: object, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(tables, dict) or name not in tables:
            return False
        tables = tables[name]
    return True


def _first_with_content(lines: Sequence[str], at: int) -> int:
    while at + 1 < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
        at += 1
    return at


def refuse_unknown(path: tuple[str, ...], table: Mapping[str, object], known: set[str]) -> None:
    """Raises SettingError for a setting that does not exist; its text lists those that do."""
    unknown = [name for name in table if name not in known]
    if unknown:
        names = ", ".join(".".join((*path, name)) for name in sorted(known))
        wrong = (*path, unknown[0])
        raise SettingError(f"unknown setting {'.'.join(wrong)}; there are: {names}", wrong)


def text(name: str, value: object) -> str | None:
    """A non-empty text, or None. Raises ConfigError."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError(f"{name} = {value!r}: write a name in quotes")
