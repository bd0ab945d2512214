"""The last good settings: a daemon that starts with a broken file serves devices by them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tcmu_runner import files, settings
from tcmu_runner.errors import ConfigError
from tcmu_runner.settings import Coexistence

DEFAULT = Path("/var/lib/tcmu-runner/last-good-settings.toml")


def keep(text: str, path: Path = DEFAULT) -> None:
    """All of it or, with OSError, what was there before. Only root can read it."""
    files.write_whole(path, text, files.ROOT_ONLY)


def read(path: Path = DEFAULT) -> str:
    """The kept text; empty, which means all defaults, if there is none or it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def coexistence(path: Path = DEFAULT) -> Coexistence:
    """The [coexistence] table of the running daemon, also of one that started with a broken file."""
    with suppress(ConfigError):
        return settings.load(None).coexistence
    with suppress(ConfigError):
        return settings.parse(read(path)).coexistence
    return Coexistence()
