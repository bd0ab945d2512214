"""Config strings: `subtype/rest`, with `;name=value` options, as targetcli and the C daemon write them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar, get_type_hints

from tcmu_runner.errors import ConfigError
from tcmu_runner.units import parse_size

MAX_LENGTH = 255  # the kernel cuts a longer dev_config silently
TIME_OUT = re.compile(r"/?;?\btcmur_cmd_time_out=(?P<seconds>[^;/]*);?")

Parsed = TypeVar("Parsed")


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigString:
    """subtype and rest: around the first '/'. time_out: seconds until a command is late, None: never."""

    subtype: str
    rest: str
    time_out: int | None = None


def split(text: str) -> ConfigString:
    """Takes a config string apart. Raises ConfigError where the kernel or LIO's tools would garble it."""
    text = text.rstrip("\n")  # `echo` into attrib/dev_config keeps the newline
    _check_characters(text)
    subtype, slash, rest = text.partition("/")
    if not slash or not subtype:
        raise ConfigError(
            f"config string {text!r} names no handler: write HANDLER/CONFIG, like file//srv/disk.img"
        )
    time_out, rest = _take_time_out(rest)
    return ConfigString(subtype, rest, time_out)


def _check_characters(text: str) -> None:
    if len(text.encode(errors="surrogateescape")) > MAX_LENGTH:
        raise ConfigError(
            f"config string exceeds {MAX_LENGTH} bytes, the kernel would cut it: use a shorter path"
        )
    for character, why in ((",", "the kernel ends the string there"), (":", "LIO's tools refuse it")):
        if character in text:
            raise ConfigError(
                f"config string {text!r} contains {character!r}, {why}: rename the path without it"
            )
    if any(character.isspace() for character in text):
        raise ConfigError(
            f"config string {text!r} contains white space, LIO's tools would cut it: rename the path"
        )


def _take_time_out(rest: str) -> tuple[int | None, str]:
    """`tcmur_cmd_time_out=N` belongs to the daemon, wherever it stands; the handler does not see it."""
    match = TIME_OUT.search(rest)
    if match is None:
        return None, rest
    if not match["seconds"].isdigit():
        raise ConfigError(f"tcmur_cmd_time_out={match['seconds']} is not a number of seconds")
    before, after = rest[: match.start()], rest[match.end() :]
    separator = ";" if before and after and not after.startswith("/") else ""
    return int(match["seconds"]) or None, before + separator + after


def parse_options(into: type[Parsed], text: str, first: str = "path") -> Parsed:
    """`FIRST;name=value;flag` into a dataclass whose field `first` takes the part before the first ';'.

    Fields are str, bool or int (sizes with K, M, G); names are written with '_' or '-'.
    """
    head, *pairs = text.split(";")
    types: dict[str, Any] = get_type_hints(into)
    values: dict[str, str | int | bool] = {first: head}
    for pair in filter(None, pairs):
        name, equals, value = pair.partition("=")
        key = name.replace("-", "_")
        if key not in types or key == first:
            known = ", ".join(sorted(set(types) - {first})) or "none"
            raise ConfigError(f"unknown option {name!r}; known options: {known}")
        values[key] = _convert(name, types[key], value if equals else None)
    return into(**values)


def _convert(name: str, kind: type, value: str | None) -> str | int | bool:
    if kind is bool:
        words = {None: True, "1": True, "yes": True, "on": True, "0": False, "no": False, "off": False}
        if value not in words:
            raise ConfigError(f"option {name}={value}: write {name}=1 or {name}=0")
        return words[value]
    if value is None:
        raise ConfigError(f"option {name} needs a value: write {name}=VALUE")
    if kind is int:
        try:
            return parse_size(value)
        except ValueError as error:
            raise ConfigError(f"option {name}: {error}") from None
    return value
