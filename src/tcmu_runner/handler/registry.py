"""Finds handlers: entry points of installed packages, Python files in directories, a given file."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shlex
import stat
import sys
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from tcmu_runner.errors import ConfigError, UnknownHandlerError
from tcmu_runner.handler import config
from tcmu_runner.handler.api import AsyncHandler, Handler, Plugin
from tcmu_runner.handler.config import ConfigString
from tcmu_runner.handler.filter import Layer, StackDefinition

GROUP = "tcmu_runner.handlers"
_SUBTYPE = re.compile(r"[A-Za-z0-9_]+")  # an element of a D-Bus object path, as targetcli expects

# Any: what a config string becomes is known to the class's own `parse` and `open`, and to nobody else
AnyHandler = type[Handler[Any]] | type[AsyncHandler[Any]]
Provider = AnyHandler | StackDefinition  # both have a subtype, privileges, describe and parse

log = logging.getLogger(__name__)
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH  # the group's bits also hold an ACL's mask (acl(5))


class Registry:
    """Handler classes, and stacks of filters over them, by subtype."""

    def __init__(self) -> None:
        self._providers: Mapping[str, Provider] = {}
        self.problems: list[str] = []  # handlers that cannot be loaded, with the reason

    def _cannot(self, text: str) -> None:
        self.problems.append(text)
        log.error("%s", text)

    def __iter__(self) -> Iterator[Provider]:
        """Sorted by subtype."""
        return (self._providers[name] for name in sorted(self._providers))

    def __len__(self) -> int:
        return len(self._providers)

    def add(self, *classes: type) -> None:
        """Registers all of the classes. Raises ConfigError if one cannot be used, or its subtype is taken;
        then registers none."""
        added = dict(self._providers)
        for cls in map(check_class, classes):
            other = added.setdefault(cls.subtype, cls)
            if other is not cls:
                raise ConfigError(
                    f"handler {cls.subtype!r} exists twice: {_origin(other)} and {_origin(cls)}; remove one"
                )
        self._providers = added

    def definition(
        self, subtype: str, below: str, layers: tuple[Layer, ...], description: str = ""
    ) -> StackDefinition:
        """A stack of filters over the handler `below`; does not register it. Raises ConfigError."""
        if not _SUBTYPE.fullmatch(subtype):
            raise ConfigError(f"stack {subtype!r}: write a name of letters, digits and '_'")
        handlers = self._handlers()
        if subtype in handlers:
            raise ConfigError(f"stack {subtype!r}: there is a handler of this name; choose another name")
        if below not in handlers:
            known = ", ".join(sorted(handlers))
            raise ConfigError(f"stack {subtype!r}: no handler {below!r}; there are: {known}")
        return StackDefinition(subtype, handlers[below], layers, description)

    def put(self, definition: StackDefinition) -> None:
        """Registers a stack; replaces one of the same name."""
        self._providers = {**self._providers, definition.subtype: definition}

    def set_stacks(self, definitions: Iterable[StackDefinition]) -> None:
        """Replaces all stacks; open devices keep theirs."""
        stacks = {definition.subtype: definition for definition in definitions}
        self._providers = {**self._handlers(), **stacks}

    def _handlers(self) -> dict[str, AnyHandler]:
        """Handlers by subtype, without stacks."""
        return {name: each for name, each in self._providers.items() if isinstance(each, type)}

    def find(self, text: str) -> tuple[Provider, ConfigString]:
        """The provider that a config string names; the subtype has to match exactly."""
        parts = config.split(text)
        provider = self._providers.get(parts.subtype)
        if provider is None:
            known = ", ".join(sorted(self._providers)) or "none"
            broken = "".join(f"; {each}" for each in self.problems)
            raise UnknownHandlerError(
                f"no handler {parts.subtype!r}; available: {known}; correct the config string, or install it"
                f"{broken}"
            )
        return provider, parts

    def check(self, text: str) -> None:
        """Raises what opening a device with this config string would raise before touching storage."""
        provider, parts = self.find(text)
        provider.parse(parts.rest)

    def load_entry_points(self) -> None:
        """Loads handlers of installed packages; one that cannot be imported is noted in `problems`."""
        for entry in entry_points(group=GROUP):
            try:
                self.add(entry.load())
            except (Exception, SystemExit) as error:  # an import of foreign code may raise anything
                reason = str(error) if isinstance(error, ConfigError) else _describe(error)
                self._cannot(
                    f"handler {entry.name} ({entry.value}) cannot be used: {reason}; "
                    "install what it needs, or uninstall its package"
                )

    def load_directory(self, directory: Path) -> None:
        """Loads every *.py of a directory, except _*.py; one that is broken, missing or writable by others is
        noted in `problems`."""
        try:
            check_ownership(directory)
            paths = sorted(directory.iterdir())
        except ConfigError as error:
            self._cannot(str(error))
            return
        except OSError as error:
            where = "--handler-path or the setting handlers.paths"
            self._cannot(f"no handlers of directory {directory}: {error.strerror}; correct {where}")
            return
        for path in paths:
            if path.suffix == ".py" and not path.name.startswith("_"):
                try:
                    check_ownership(path)
                    self.load_file(path)
                except OSError as error:  # a dangling link
                    self._cannot(f"{path} cannot be loaded: {error.strerror}; correct or remove it")
                except ConfigError as error:
                    self._cannot(str(error))

    def load_file(self, path: Path) -> list[AnyHandler]:
        """Registers the handlers of one Python file: classes with a subtype. ConfigError if it has none or
        cannot be imported; then registers none."""
        module = _import(path)
        found = list(dict.fromkeys(cls for cls in vars(module).values() if _is_defined_by(module, cls)))
        if not found:
            raise ConfigError(
                f"{path} defines no handler: subclass tcmu_runner.Handler and give it a subtype"
            )
        self.add(*found)
        return found


def check_class(cls: object) -> AnyHandler:
    """The class itself. Raises ConfigError with the remedy if the engine cannot serve a LUN with it."""
    if not (isinstance(cls, type) and issubclass(cls, Handler | AsyncHandler)):
        raise ConfigError(f"{cls!r} is not a subclass of tcmu_runner.Handler or tcmu_runner.AsyncHandler")
    name, base = f"{cls.__module__}.{cls.__qualname__}", Handler if issubclass(cls, Handler) else AsyncHandler
    subtype = getattr(cls, "subtype", None)
    if not (isinstance(subtype, str) and _SUBTYPE.fullmatch(subtype)):
        raise ConfigError(f"{name}: subtype {subtype!r} must be letters, digits or '_'")
    for required in ("open", "read"):
        if inspect.getattr_static(cls, required) is vars(base)[required]:
            raise ConfigError(f"{name} defines no {required}(): every handler needs it")
    if base is Handler and (method := _first_async_method(cls)):
        raise ConfigError(
            f"{name}.{method} is async: subclass tcmu_runner.AsyncHandler, or make it a plain def"
        )
    return cls


def _first_async_method(cls: type) -> str | None:
    for name in (*vars(Handler), "command"):
        method = getattr(cls, name, None)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            return name
    return None


class _Loader(SourceFileLoader):
    """Does not write or read a __pycache__ beside an administrator's file."""

    def path_stats(self, path: str) -> Mapping[str, int]:
        raise OSError


def check_ownership(path: Path) -> None:
    """Refuses handler files that a process without root's rights could change: root is about to run them.

    path: a directory of handlers, or a file in it. Does nothing unless we are root: other users run their own
    files. Raises ConfigError with the remedy, or OSError."""
    if os.geteuid() != 0:
        return
    found, quoted = path.stat(), shlex.quote(str(path))
    owner, mode = found.st_uid, stat.S_IMODE(found.st_mode)
    remedies = [f"chown root {quoted}"] if owner else []
    if mode & _WRITABLE:
        remedies.append(f"chmod go-w {quoted}")
    if remedies:
        raise ConfigError(
            f"no handler of {path} is loaded: it belongs to user {owner}, with mode {mode:04o}, and others "
            f"than root could change what root runs: {' && '.join(remedies)}"
        )


def _import(path: Path) -> ModuleType:
    """Imports a Python file under a name derived from its path: equal file names do not collide."""
    path = path.absolute()
    name = f"tcmu_handler_{path.stem}_{zlib.crc32(bytes(path)):08x}"
    spec = spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # for dataclasses and type hints, which look the module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # an import of foreign code may raise anything
        del sys.modules[name]
        raise ConfigError(
            f"{path} cannot be loaded: {_describe(error, path)}; correct or remove it"
        ) from error
    return module


def _is_defined_by(module: ModuleType, cls: object) -> TypeGuard[AnyHandler]:
    return (
        isinstance(cls, type)
        and issubclass(cls, Plugin)
        and "subtype" in vars(cls)
        and cls.__module__ == module.__name__
    )


def _describe(error: BaseException, path: Path | None = None) -> str:
    """The exception, and the last line of the file in its traceback."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


def _origin(provider: Provider) -> str:
    if isinstance(provider, StackDefinition):
        return "a stack of the settings"
    return getattr(sys.modules.get(provider.__module__), "__file__", None) or provider.__module__
