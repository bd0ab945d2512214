"""Libraries that only some commands need; the error for a missing one names its package."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tcmu_runner.errors import TcmuError

_PACKAGES = {"rtslib_fb": "rtslib-fb", "rich": "rich", "shtab": "shtab", "dbus_fast": "dbus-fast"}


def need(module: str) -> Any:
    """The module. Raises TcmuError."""
    try:
        return import_module(module)
    except ImportError as error:
        package = _PACKAGES[module.partition(".")[0]]
        debian = f"python3-{package.removeprefix('python-')}"
        raise TcmuError(
            f"this needs the library {package} ({error}): apt install {debian}, or pip install {package}"
        ) from None
