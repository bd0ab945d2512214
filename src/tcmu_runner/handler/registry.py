"""Where handlers come from: entry points of installed packages, Python files in directories, a given file."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from tcmu_runner.errors import ConfigError, UnknownHandlerError
from tcmu_runner.handler import config
from tcmu_runner.handler.api import AsyncHandler, Handler, Plugin
from tcmu_runner.handler.config import ConfigString

GROUP = "tcmu_runner.handlers"
_SUBTYPE = re.compile(r"[A-Za-z0-9_]+")  # a subtype is a D-Bus object path element in targetcli's contract

AnyHandler = type[Handler[object]] | type[AsyncHandler[object]]

log = logging.getLogger(__name__)


class Registry:
    """Handler classes by subtype."""

    def __init__(self) -> None:
        self._classes: dict[str, AnyHandler] = {}

    def __iter__(self) -> Iterator[AnyHandler]:
        """In order of subtype."""
        return (self._classes[name] for name in sorted(self._classes))

    def __len__(self) -> int:
        return len(self._classes)

    def add(self, cls: AnyHandler) -> None:
        """Registers a class; a second one of the same subtype, or a bad subtype, is a ConfigError."""
        subtype = getattr(cls, "subtype", "")
        if not _SUBTYPE.fullmatch(subtype):
            raise ConfigError(
                f"{cls.__module__}.{cls.__name__}: subtype {subtype!r} must be letters, digits or '_'"
            )
        other = self._classes.setdefault(subtype, cls)
        if other is not cls:
            raise ConfigError(
                f"handler {subtype!r} exists twice: {_origin(other)} and {_origin(cls)}; remove one"
            )

    def find(self, text: str) -> tuple[AnyHandler, ConfigString]:
        """The handler a whole config string names; the subtype has to match as a whole."""
        parts = config.split(text)
        cls = self._classes.get(parts.subtype)
        if cls is None:
            known = ", ".join(sorted(self._classes)) or "none"
            raise UnknownHandlerError(f"no handler {parts.subtype!r}; available: {known}")
        return cls, parts

    def check(self, text: str) -> None:
        """Raises what opening a device with this config string would raise before it touches storage."""
        cls, parts = self.find(text)
        cls.parse(parts.rest)

    def load_entry_points(self) -> None:
        """Handlers of installed packages; one that cannot be imported costs only itself."""
        for entry in entry_points(group=GROUP):
            try:
                self.add(entry.load())
            except Exception as error:  # whatever the import of foreign code raises
                log.error("handler %s of %s cannot be used: %s", entry.name, entry.value, error)

    def load_directory(self, directory: Path) -> None:
        """Every *.py of a directory that defines handlers; a broken file costs only itself."""
        for path in sorted(directory.glob("*.py")):
            try:
                self.load_file(path)
            except Exception as error:  # whatever the import of foreign code raises
                log.error("handlers of %s cannot be used: %s", path, error)

    def load_file(self, path: Path) -> list[AnyHandler]:
        """The handlers one Python file defines. ConfigError when it defines none."""
        spec = importlib.util.spec_from_file_location(f"tcmu_handler_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        found = [cls for cls in vars(module).values() if _is_handler(cls) and cls.__module__ == spec.name]
        if not found:
            raise ConfigError(
                f"{path} defines no handler: subclass tcmu_runner.Handler and give it a subtype"
            )
        for cls in found:
            self.add(cls)
        return found


def _is_handler(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Plugin) and hasattr(cls, "subtype")


def _origin(cls: type) -> str:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
