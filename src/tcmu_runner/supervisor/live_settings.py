"""The settings in force: both files, the command line and the environment, and what an edit changes at once.

Precedence, as in the C daemon: tcmu.conf, then the command line, then TCMU_LOGDIR, then the default. A file
that cannot be parsed after an edit is refused as a whole: the log has file, line and remedy, and the settings
stay. They also stay when the file is deleted. At the start a broken file must not keep initiators waiting:
the last good settings apply, unless --settings named the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

from tcmu_runner import settings
from tcmu_runner.aio import Tasks
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.filter import StackDefinition
from tcmu_runner.handler.registry import Registry
from tcmu_runner.logs import COMMANDS, FILE_NAME, LEVELS, Logs
from tcmu_runner.settings import Settings, StackSettings, kept, tcmu_conf, tcmu_runner_toml
from tcmu_runner.settings.lines import SettingError, about
from tcmu_runner.settings.tcmu_conf import TcmuConf
from tcmu_runner.settings.watch import FileWatch
from tcmu_runner.supervisor.device_manager import DeviceManager
from tcmu_runner.workers.server import Terms

LOG_DIRECTORY = Path("/var/log")
LIVE = {"devices", "stacks"}  # tables that take effect without a restart
QUIET_SECONDS = 0.2  # after the last change of a file: an editor writes, renames and truncates

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's options. None: not given. settings None: the default file, which may be missing."""

    debug: bool = False
    log_dir: Path | None = None
    handler_path: Path | None = None
    settings: Path | None = None
    tcmu_conf: Path = tcmu_conf.DEFAULT
    kept: Path = kept.DEFAULT


class Follower(Protocol):
    """Something with processes of its own that write to our log: the pool of workers, the guardian."""

    def log_to(self, level: int, descriptor: int) -> None: ...


class Configuration:
    """Call `load` at the start; `follow` and all else run on the event loop."""

    def __init__(self, options: Options, logs: Logs, quiet_seconds: float = QUIET_SECONDS) -> None:
        """quiet_seconds: so long after the last change of a file the files are read."""
        self.settings = Settings()
        self.registry = Registry()
        self._options = options
        self._logs = logs
        self._quiet_seconds = quiet_seconds
        self._conf = TcmuConf()
        self._toml = options.settings or tcmu_runner_toml.DEFAULT
        self._seen: dict[Path, str | None] = {}  # each file's text when it was read last
        self._directories: set[Path] = set()  # from which handlers were loaded
        self._device_manager: DeviceManager
        self._followers: Sequence[Follower] = ()
        self._tasks = Tasks()
        self._pending: asyncio.TimerHandle | None = None
        self._no_log = ""  # why the log file cannot be written

    def problems(self) -> list[str]:
        """What does not work though LUNs are served: handlers that cannot be loaded, a log file that cannot
        be written."""
        return [*self.registry.problems, *filter(None, [self._no_log, self._logs.trouble])]

    def load(self) -> None:
        """Sets up the log and reads all files. An error in a default file is only logged: LUNs are served
        nevertheless. Raises ConfigError for a file that the command line names."""
        self._read_conf(_read(self._options.tcmu_conf))
        self._set_log()
        self.registry.load_entry_points()
        if self._options.handler_path is not None:
            self._load_handlers(self._options.handler_path)
        self._seen[self._toml] = _read(self._toml)
        try:
            text = settings.read(self._options.settings)
            self._take(text)
        except ConfigError as error:
            self._fall_back(f"{self._toml}: {error}")
        else:
            self._keep(text)

    def terms(self, name: str, config: str) -> Terms:
        """What the settings say of a device (user_0/vol0) with this config string."""
        subtype = config.partition("/")[0]
        stacks = (stack for stack in self.settings.stacks if stack.name == subtype)
        return Terms(self.settings.devices.of(name), next(stacks, None))

    # -- changes --------------------------------------------------------------------------------------

    @contextmanager
    def follow(self, device_manager: DeviceManager, *followers: Follower) -> Iterator[None]:
        """Applies changes of the files while the context is open."""
        self._device_manager, self._followers = device_manager, followers
        loop, watch = asyncio.get_running_loop(), FileWatch([self._options.tcmu_conf, self._toml])
        loop.add_reader(watch.fileno(), self._happened, watch)
        self._tell_followers()
        try:
            yield
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()

    def _happened(self, watch: FileWatch) -> None:
        watch.clear()
        if self._pending is not None:
            self._pending.cancel()
        self._pending = asyncio.get_running_loop().call_later(self._quiet_seconds, self._reload)

    def _reload(self) -> None:
        if (text := self._changed(self._options.tcmu_conf)) is not None:
            self._read_conf(text)
            self.reopen_logs()
        if (text := self._changed(self._toml)) is not None:
            try:
                self._apply(text)
            except ConfigError as error:
                log.error("%s: %s: the old settings stay", self._toml, error)

    def _changed(self, path: Path) -> str | None:
        """The file's text if it differs from the last one read; else None."""
        before, text = self._seen.get(path), _read(path)
        self._seen[path] = text
        if text is None and before is not None:
            log.info("%s is gone: its settings stay until the next start", path)
        return text if text != before else None

    # -- tcmu.conf and the log ------------------------------------------------------------------------

    def _read_conf(self, text: str | None) -> None:
        path = self._options.tcmu_conf
        self._seen[path] = text
        try:
            self._conf = tcmu_conf.parse(text or "")
        except ConfigError as error:
            log.error("%s: %s: the old settings stay", path, error)
            return
        for sentence in self._conf.unknown:
            log.warning("%s: %s", path, sentence)

    def reopen_logs(self) -> None:
        """Also for SIGHUP, which logrotate sends after it renamed the log file."""
        self._set_log()
        self._tell_followers()

    def _set_log(self) -> None:
        of_command_line = COMMANDS if self._options.debug else logging.INFO
        level = self._conf.log_level
        self._logs.set_level(of_command_line if level is None else LEVELS[level])
        directory = self._log_dir()
        name = logging.getLevelName(self._logs.level)
        try:
            self._logs.write_to(directory)
        except OSError as error:
            self._no_log = f"no log in {directory}: {error.strerror}: create it, or correct log_dir"
            log.error("%s; logging to standard error only, level %s and above", self._no_log, name)
        else:
            self._no_log = ""
            log.info("logging to %s, level %s and above", directory / FILE_NAME, name)

    def _log_dir(self) -> Path:
        environment = os.environ.get("TCMU_LOGDIR")
        of_environment = Path(environment) if environment else LOG_DIRECTORY
        return self._conf.log_dir or self._options.log_dir or of_environment

    def _tell_followers(self) -> None:
        for follower in self._followers:
            follower.log_to(self._logs.level, self._logs.fileno())

    # -- tcmu-runner.toml -----------------------------------------------------------------------------

    def _take(self, text: str) -> None:
        """At the start: applies the whole text or, with ConfigError, nothing of it."""
        found = settings.parse(text)
        self._load_handlers(*found.handlers.paths)
        self.registry.set_stacks(self._definitions(text, found.stacks))
        self.settings = found

    def _load_handlers(self, *directories: Path) -> None:
        for directory in directories:
            if directory not in self._directories:
                self._directories.add(directory)
                self.registry.load_directory(directory)

    def _fall_back(self, error: str) -> None:
        """Serves with the last good settings or the defaults: devices may wait that no other daemon serves.
        Raises ConfigError for a file that --settings names: the caller reads the error."""
        if self._options.settings is not None:
            raise ConfigError(error)
        good, what = kept.read(self._options.kept), "the last good settings apply"
        try:
            self._take(good)
        except ConfigError:
            good = ""
        if not good:
            what = "the defaults apply"
        log.error("%s: until it is corrected %s", error, what)

    def _keep(self, text: str) -> None:
        if self._options.settings is None:
            try:
                kept.keep(text, self._options.kept)
            except OSError as error:
                log.warning("cannot save the settings, which a start with a broken file would use: %s", error)

    def _apply(self, text: str) -> None:
        """Applies the whole text or, with ConfigError, nothing of it."""
        before, after = self.settings, settings.parse(text)
        definitions = self._definitions(text, after.stacks)
        self._check_use(after)
        self.registry.set_stacks(definitions)
        live = {name: getattr(after, name) for name in LIVE}
        self.settings = replace(before, **live)
        self._keep(text)
        log.info("%s: new settings", self._toml)
        for device in self._device_manager.devices():
            self._refresh(device.name, device.config, before)
        for each in fields(Settings):
            if each.name not in LIVE and getattr(before, each.name) != getattr(after, each.name):
                text = "%s changed: takes effect when tcmu-runner is restarted (initiators see no error)"
                log.warning(text, each.name)

    def _definitions(self, text: str, stacks: Sequence[StackSettings]) -> list[StackDefinition]:
        try:
            return list(self._each_definition(stacks))
        except SettingError as error:
            raise settings.located(text, error) from None

    def _each_definition(self, stacks: Sequence[StackSettings]) -> Iterator[StackDefinition]:
        for stack in stacks:
            with about("stacks", stack.name):
                yield self.registry.definition(stack.name, stack.handler, stack.layers, stack.description)

    def _check_use(self, after: Settings) -> None:
        gone = {stack.name for stack in self.settings.stacks} - {stack.name for stack in after.stacks}
        for device in self._device_manager.devices():
            if device.handler in gone:
                what = f"stacks.{device.handler} is used by {device.name}"
                raise ConfigError(f"{what}: remove that device first")

    def _refresh(self, name: str, config: str, before: Settings) -> None:
        terms = self.terms(name, config)
        if terms.overrides != before.devices.of(name):
            self._tasks.spawn(self._device_manager.adjust(name, terms.overrides))
        if terms.stack is not None and terms.stack not in before.stacks:
            log.warning("%s: its stack changed: applies after tcmu-runner restart %s", name, name)


def _read(path: Path) -> str | None:
    """None without such a file, or when it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("%s cannot be read: %s", path, error.strerror)
        return None
