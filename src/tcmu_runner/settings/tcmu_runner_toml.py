"""The settings file, /etc/tcmu/tcmu-runner.toml: processes that serve devices and their limits, values that
devices report to initiators (see `engine.overrides`), directories of handlers, and stacks of filters.

[workers]
processes = "per-device"   # or a number shared by all devices; 0: the daemon's own process
user = "tcmu"              # the user that a worker changes to; without it root stays root, without privileges
memory = "512M"            # how much a worker may allocate; without it there is no limit
open_files = 4096          # how many descriptors a worker may have
nice = 0                   # priority of workers by nice(2), -20 to 19

[handlers]
paths = ["/usr/local/lib/tcmu-runner"]    # directories of further handlers, *.py; only root may write there

[stacks.vault]             # config string: vault//srv/disk.img; what follows vault/ is for the handler below
handler = "file"
description = "encrypted files"
filters = [{ filter = "luks", key_file = "/etc/tcmu/vault.key" }, { filter = "stats" }]    # topmost first

[metrics]                  # without it, nothing listens
port = 9809                # of the status page, http://127.0.0.1:9809/, and of /metrics for Prometheus
host = "127.0.0.1"         # an address to listen on; each client that reaches it can read everything
names = ["san.example"]    # host names by which browsers may call it, besides localhost and addresses

[coexistence]              # with other daemons on this kernel
others = ["overlaybd"]     # subtypes that another daemon serves; "*" is every one that no handler here has
lock = "/run/tcmu.lock"    # held by the one tcmu-runner; a second daemon needs another lock
bus_name = "org.kernel.TCMUService1"    # the name that targetcli calls
control = "/run/tcmu-runner/control.sock"    # for our commands without D-Bus; with another bus_name NAME.sock
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tcmu_runner.engine import overrides
from tcmu_runner.engine.overrides import OverrideTable
from tcmu_runner.errors import ConfigError
from tcmu_runner.settings.lines import SettingError, about, line_of, refuse_unknown, text
from tcmu_runner.settings.stacks import StackSettings
from tcmu_runner.units import parse_size

DEFAULT = Path("/etc/tcmu/tcmu-runner.toml")
PER_DEVICE = "per-device"
LONGEST_SOCKET = 107  # bytes of its path; sockaddr_un of unix(7) has 108, a NUL among them
_BUS_NAME = re.compile(r"[A-Za-z_-][\w-]*(\.[A-Za-z_-][\w-]*)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Workers:
    """processes: None is one per device, 0 none. memory: bytes; 0: no limit. open_files: 0: no limit. nice:
    nice(2) of the workers."""

    processes: int | None = None
    user: str | None = None
    memory: int = 0
    open_files: int = 0
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Handlers:
    """paths: directories with handlers, beside those of installed packages."""

    paths: tuple[Path, ...] = ()

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> Handlers:
        """Raises ConfigError."""
        refuse_unknown(("handlers",), table, {"paths"})
        paths = table.get("paths", [])
        with about("handlers", "paths"):
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise ConfigError(f'handlers.paths = {paths!r}: write a list, ["/usr/local/lib/tcmu-runner"]')
            for path in paths:
                if not path.startswith("/"):
                    raise ConfigError(f'handlers.paths has "{path}": write an absolute path')
        return cls(tuple(map(Path, paths)))


@dataclass(frozen=True, slots=True)
class Metrics:
    """Address of the status page and the metrics. port: 0 is off."""

    port: int = 0
    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coexistence:
    """Other daemons on the same kernel. others: subtypes that they serve; "*": each that this daemon has not.
    lock: held while a daemon serves. bus_name: the daemon's. control: its socket for our commands."""

    others: tuple[str, ...] = ()
    lock: Path = Path("/run/tcmu.lock")
    bus_name: str = "org.kernel.TCMUService1"
    control: Path = Path("/run/tcmu-runner/control.sock")

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> Coexistence:
        """Raises ConfigError."""
        refuse_unknown(("coexistence",), table, {"others", "lock", "bus_name", "control"})
        with about("coexistence", "others"):
            others = table.get("others", [])
            if not isinstance(others, list) or not all(isinstance(each, str) and each for each in others):
                raise ConfigError(f'coexistence.others = {others!r}: write a list, ["overlaybd"]')
        with about("coexistence", "lock"):
            lock = Path(text("coexistence.lock", table.get("lock")) or cls().lock)
            if not lock.is_absolute():
                raise ConfigError(f'coexistence.lock = "{lock}": write an absolute path')
        with about("coexistence", "bus_name"):
            name = text("coexistence.bus_name", table.get("bus_name")) or cls().bus_name
            if not _BUS_NAME.fullmatch(name) or len(name) > 255:
                raise ConfigError(f'coexistence.bus_name = "{name}": write a name like com.example.Tcmu')
        with about("coexistence", "control"):
            control = cls._control(name, text("coexistence.control", table.get("control")))
        return cls(tuple(others), lock, name, control)

    @classmethod
    def _control(cls, bus_name: str, text: str | None) -> Path:
        """The default is derived from the bus name: two daemons must not share the socket."""
        usual = cls().control
        path = Path(text) if text else usual
        if not text and bus_name != cls().bus_name:
            path = usual.with_name(f"{bus_name}.sock")
        if not path.is_absolute() or len(os.fsencode(path)) > LONGEST_SOCKET:
            raise ConfigError(
                f'coexistence.control = "{path}": write an absolute path of at most {LONGEST_SOCKET} bytes'
            )
        return path


@dataclass(frozen=True, slots=True)
class Settings:
    workers: Workers = field(default_factory=Workers)
    handlers: Handlers = field(default_factory=Handlers)
    devices: OverrideTable = field(default_factory=OverrideTable)
    stacks: tuple[StackSettings, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    coexistence: Coexistence = field(default_factory=Coexistence)


def load(path: Path | None) -> Settings:
    """The settings of a file; the defaults if `path` is None and there is no file at DEFAULT.

    Raises ConfigError with file, line, and what would be right.
    """
    try:
        return parse(read(path))
    except ConfigError as error:
        raise ConfigError(f"{path or DEFAULT}: {error}") from None


def read(path: Path | None) -> str:
    """The text of a settings file, as `load` finds it. Raises ConfigError."""
    try:
        return (path or DEFAULT).read_text()
    except FileNotFoundError:
        if path is None:
            return ""
        raise ConfigError("does not exist: correct --settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}") from None


def parse(text: str) -> Settings:
    """Raises ConfigError with the line number and what would be right."""
    try:
        return _settings(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not TOML: {error}") from None
    except SettingError as error:
        raise located(text, error) from None


def located(text: str, error: SettingError) -> ConfigError:
    """The error with the line number of its setting."""
    return ConfigError(f"line {line_of(text, error.path)}: {error}")


def _settings(tables: Mapping[str, object]) -> Settings:
    refuse_unknown((), tables, {"workers", "handlers", "devices", "stacks", "metrics", "coexistence"})
    return Settings(
        _workers(_table(tables, "workers")),
        Handlers.parse(_table(tables, "handlers")),
        _devices(_table(tables, "devices")),
        tuple(StackSettings.parse(name, table) for name, table in _table(tables, "stacks").items()),
        _metrics(_table(tables, "metrics")),
        Coexistence.parse(_table(tables, "coexistence")),
    )


def _table(tables: Mapping[str, object], name: str) -> dict[str, object]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise SettingError(f"{name} is a table: write [{name}]", (name,))
    return table


def _devices(tables: Mapping[str, object]) -> OverrideTable:
    return OverrideTable(tuple((pattern, _device(pattern, table)) for pattern, table in tables.items()))


def _device(pattern: str, table: object) -> overrides.Overrides:
    with about("devices", pattern):
        if not isinstance(table, dict):
            raise ConfigError(f"devices.{pattern} is a table: write [devices.vol0]")
    for name, value in table.items():
        with about("devices", pattern, name):
            overrides.parse(pattern, {name: value})
    return overrides.parse(pattern, table)


def _workers(table: Mapping[str, object]) -> Workers:
    refuse_unknown(("workers",), table, {"processes", "user", "memory", "open_files", "nice"})
    with about("workers", "processes"):
        processes = _processes(table.get("processes", PER_DEVICE))
    with about("workers", "user"):
        user = text("workers.user", table.get("user"))
    with about("workers", "memory"):
        memory = _size("workers.memory", table.get("memory", 0))
    with about("workers", "open_files"):
        open_files = _size("workers.open_files", table.get("open_files", 0))
    with about("workers", "nice"):
        nice = _nice(table.get("nice", 0))
    return Workers(processes, user, memory, open_files, nice)


def _metrics(table: Mapping[str, object]) -> Metrics:
    if not table:
        return Metrics()
    refuse_unknown(("metrics",), table, {"port", "host", "names"})
    port, names = table.get("port"), table.get("names", [])
    with about("metrics", "port"):
        if not isinstance(port, int) or isinstance(port, bool) or port not in range(1, 65536):
            raise ConfigError(f"metrics.port = {port!r}: write a number from 1 to 65535, for example 9809")
    with about("metrics", "names"):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f'metrics.names = {names!r}: write a list, ["san.example"]')
    with about("metrics", "host"):
        host = text("metrics.host", table.get("host"))
    return Metrics(port, host or Metrics().host, tuple(names))


def _processes(value: object) -> int | None:
    if value == PER_DEVICE:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigError(f'workers.processes = {value!r}: write "{PER_DEVICE}", or a number from 0')


def _nice(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -20 <= value <= 19:
        return value
    raise ConfigError(f"workers.nice = {value!r}: write a number from -20, the most urgent, to 19")


def _size(name: str, value: object) -> int:
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
