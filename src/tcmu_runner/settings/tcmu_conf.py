"""/etc/tcmu/tcmu.conf, the settings file of the C daemon, read as that one reads it.

# how much is logged: 0 critical, 1 error, 2 warning, 3 info, 4 debug, 5 debug and each SCSI command
log_level = 3

# the directory of tcmu-runner.log
log_dir = "/var/log"

A line that begins with # is a comment, texts are in single or double quotes, of a number the first digits
count, and a level above 5 is 5. Where the C daemon reads on for ever or dies, the line is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.errors import ConfigError
from tcmu_runner.logs import LEVELS

DEFAULT = Path("/etc/tcmu/tcmu.conf")
_LINE = re.compile(r"[ \t]*([A-Za-z]\w*)[ \t]*(?:=[ \t]*(.*?))?[ \t]*")
_DIGITS = re.compile(r"\D*?(\d+)")


@dataclass(frozen=True, slots=True)
class TcmuConf:
    """None: not in the file. unknown: a sentence for each line without effect."""

    log_level: int | None = None
    log_dir: Path | None = None
    unknown: tuple[str, ...] = ()


def parse(text: str) -> TcmuConf:
    """Raises ConfigError with the line number and what would be right."""
    level, directory = None, None
    unknown: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip(" \t").startswith("#"):
            continue
        if (match := _LINE.fullmatch(line)) is None:
            text = f"line {number}: {line.strip()!r} is no setting: write NAME = VALUE, or # before it"
            raise ConfigError(text)
        name, value = match.groups()
        try:
            match name:
                case "log_level":
                    level = _level(value or "")
                case "log_dir":
                    directory = _directory(value or "")
                case _:
                    unknown.append(f"line {number}: {name} has no effect; there are log_level and log_dir")
        except ConfigError as error:
            raise ConfigError(f"line {number}: {error}") from None
    return TcmuConf(level, directory, tuple(unknown))


def _level(text: str) -> int:
    if (match := _DIGITS.match(text)) is None:
        raise ConfigError(f"log_level = {text}: write a number from 0 (critical) to 5 (each SCSI command)")
    return min(int(match[1]), len(LEVELS) - 1)


def _directory(text: str) -> Path:
    path = text[1:].removesuffix(text[:1])
    if text[:1] not in ("'", '"') or not path.startswith("/"):
        raise ConfigError(f'log_dir = {text}: write an absolute path in quotes: log_dir = "/var/log"')
    return Path(path)
