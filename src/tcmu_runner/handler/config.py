"""Config strings: `subtype/rest`, with `;name=value` options, as targetcli and the C daemon write them."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import re
from ipaddress import IPv6Address
from types import NoneType
from typing import Annotated, TypeVar, get_args, get_origin, get_type_hints

from tcmu_runner.errors import ConfigError
from tcmu_runner.units import parse_size

MAX_LENGTH = 255  # bytes; the kernel cuts a longer dev_config silently
TIME_OUT = "tcmur_cmd_time_out"
LATE = "tcmur_late"
SLOW = "tcmur_slow"

_GARBLED = {
    ",": "the kernel ends the string there",
    ":": "LIO's tools refuse it",
    "\0": "the kernel ends the string there",
}
_CONTROL = {*map(chr, range(32)), "\x7f"}
_COLON = "%3A"  # for the colons of an address, which LIO's tools do not accept
_ADDRESS = re.compile(r"(?<=[/@])\[?([0-9A-Fa-f.:]*:[0-9A-Fa-f.:]*(?:%\w+)?)(?:\]:\d+|\])?(?=[/;]|$)")
_YES, _NO = ("1", "yes", "on", "true"), ("0", "no", "off", "false")

Parsed = TypeVar("Parsed")
Number = Annotated[int, "a whole number, and no size: K and M mean nothing"]
Value = str | int | bool


class Late(enum.Enum):
    """The reaction to late commands, beside a line in the log. LOG: none. BUSY, ABORT: commands that the
    handler has not begun end in BUSY or TASK ABORTED. RESTART: the worker process is replaced; initiators
    retry."""

    LOG = "log"
    BUSY = "busy"
    ABORT = "abort"
    RESTART = "restart"


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigString:
    """subtype and rest: around the first '/'. time_out: seconds after which a command is late; None: never.
    slow: seconds after which a command is slow; 0: never; None: not given."""

    subtype: str
    rest: str
    time_out: int | None = None
    late: Late = Late.LOG
    slow: float | None = None


def split(text: str) -> ConfigString:
    """Parses a config string. Raises ConfigError if the kernel or LIO's tools would garble it."""
    text = text.rstrip("\n")  # `echo` into attrib/dev_config keeps the newline
    _check_length(text)
    _check_characters(text)
    subtype, slash, rest = text.partition("/")
    if not slash or not subtype:
        raise ConfigError(
            f"config string {text!r} names no handler: write HANDLER/CONFIG, for example file//srv/disk.img"
        )
    own, rest = _take_own(rest)
    return ConfigString(subtype, rest, _time_out(own), _late(own), _slow(own))


def _check_length(text: str) -> None:
    try:
        length = len(os.fsencode(text))
    except UnicodeEncodeError:
        raise ConfigError(f"config string {text!r} is not text: rename the path") from None
    if length > MAX_LENGTH:
        raise ConfigError(
            f"config string has {length} bytes, the kernel would cut it at {MAX_LENGTH}: use a shorter path"
        )


def escape_addresses(text: str) -> str:
    """The config string with IPv6 addresses as LIO's tools accept them."""
    return _ADDRESS.sub(lambda found: found[0].replace(":", _COLON) if _is_ipv6(found[1]) else found[0], text)


def unescape_address(text: str) -> str:
    return re.sub(_COLON, ":", text, flags=re.IGNORECASE)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _check_characters(text: str) -> None:
    for character in escape_addresses(text):
        why = _GARBLED.get(character)
        if why is None and (character.isspace() or character in _CONTROL):
            why = "LIO's tools cut or garble white space and control characters"
        if why is not None:
            raise ConfigError(
                f"config string {text!r} contains {character!r}, {why}: rename the path without it"
            )


def _take_own(rest: str) -> tuple[dict[str, str], str]:
    """The options tcmur_... are the daemon's, wherever they stand; the handler does not see them.

    gluster-block appends one; the C daemon takes it before the path, too: file/;tcmur_cmd_time_out=30;/srv/a.
    """
    own: dict[str, str] = {}
    others: list[str] = []
    for option in rest.split(";"):
        name, _, value = option.partition("=")
        if name in (TIME_OUT, LATE, SLOW):
            own[name] = value
        else:
            others.append(option)
    return own, ";".join(others).strip(";") if own else rest


def _time_out(own: dict[str, str]) -> int | None:
    seconds = own.get(TIME_OUT, "0")
    if not (seconds.isascii() and seconds.isdigit()):
        raise ConfigError(
            f"{TIME_OUT}={seconds} is not a number of seconds: write {TIME_OUT}=30, or 0 for none"
        )
    return int(seconds) or None


def _late(own: dict[str, str]) -> Late:
    if LATE not in own:
        return Late.LOG
    if not _time_out(own):
        raise ConfigError(f"{LATE} without a time has no effect: add {TIME_OUT}=30, or leave it out")
    try:
        return Late(own[LATE])
    except ValueError:
        known = ", ".join(late.value for late in Late)
        raise ConfigError(f"{LATE}={own[LATE]}: there are {known}") from None


def _slow(own: dict[str, str]) -> float | None:
    if SLOW not in own:
        return None
    milliseconds = own[SLOW]
    if not (milliseconds.isascii() and milliseconds.isdigit()):
        raise ConfigError(f"{SLOW}={milliseconds} is not a number of milliseconds: write {SLOW}=1000, or 0")
    return int(milliseconds) / 1000


def parse_options(into: type[Parsed], text: str, first: str = "path") -> Parsed:
    """Parses `FIRST;name=value;flag` into a dataclass; the part before the first ';' goes to field `first`.

    Fields are str, int (sizes with K, M, G), Number or bool (a flag, or =1 and =0), each also `| None`; an
    option without a default has to be given. Names may be written with '-' for '_'. Raises ConfigError.
    """
    head, *pairs = text.split(";")
    types: dict[str, object] = get_type_hints(into, include_extras=True)
    values: dict[str, Value] = {first: head}
    for pair in filter(None, pairs):
        name, equals, value = pair.partition("=")
        key = name.replace("-", "_")
        if key not in types or key == first:
            known = ", ".join(sorted(set(types) - {first})) or "none"
            raise ConfigError(f"unknown option {name!r}; known options: {known}")
        if key in values:
            raise ConfigError(f"option {name!r} is given twice: leave one out")
        values[key] = _convert(name, types[key], value if equals else None)
    _check_complete(into, values)
    return into(**values)


def _check_complete(into: type[Parsed], values: dict[str, Value]) -> None:
    for parameter in inspect.signature(into).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in values:
            raise ConfigError(f"option {parameter.name!r} is missing: add ;{parameter.name}=VALUE")


def _convert(name: str, kind: object, value: str | None) -> Value:
    if get_origin(kind) is not Annotated:  # of `int | None`: int
        kind = next((member for member in get_args(kind) if member is not NoneType), kind)
    if kind is bool:
        if value is not None and value.lower() not in _YES + _NO:
            raise ConfigError(f"option {name}={value}: write {name}=1 or {name}=0")
        return value is None or value.lower() in _YES
    if not value:
        raise ConfigError(f"option {name} needs a value: write {name}=VALUE")
    if kind == Number:
        if not (value.isascii() and value.isdigit()):
            raise ConfigError(f"option {name}={value} is not a whole number: write it in digits, {name}=30")
        return int(value)
    if kind is int:
        try:
            return parse_size(value)
        except ValueError as error:
            raise ConfigError(f"option {name}: {error}") from None
    return value
