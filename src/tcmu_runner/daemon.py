"""The composition root: logging, lock, handlers, front end, signals."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tcmu_runner import settings
from tcmu_runner.engine.figures import summary
from tcmu_runner.engine.view import Watchable
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.fleet import Fleet
from tcmu_runner.kernel.foreign import Foreign
from tcmu_runner.kernel.frontend import Frontend
from tcmu_runner.kernel.guardian import Guardian
from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.processes import Confinement
from tcmu_runner.kernel.servers import LocalServer, Server, Trouble
from tcmu_runner.kernel.template import Template
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.kernel.worker import Worker
from tcmu_runner.kernel.workers import Pool, WorkerServer
from tcmu_runner.settings import Metrics, Settings, StackSettings
from tcmu_runner.systemd import ServiceManager

LOCK_SECONDS = 10.0
LOG_NAME = "tcmu-runner.log"
FORMAT = "%(asctime)s %(process)d [%(levelname)s] %(message)s"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. log_dir None: standard error only. settings None: the default file."""

    log_level: int = logging.INFO
    log_dir: Path | None = None
    handler_path: Path | None = None
    settings: Path | None = None


def run(options: Options) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status; raises TcmuError or OSError to be shown."""
    _set_up_log(options)
    configured = settings.load(options.settings)
    workers = configured.workers
    _be_urgent(workers.nice)
    with DaemonLock() as lock:
        lock.acquire(LOCK_SECONDS)
        paths = Paths()
        guardian = Guardian.start(paths, DaemonLock)
        registry = load_handlers(options.handler_path, configured.stacks)
        template = _template(registry, paths, configured) if workers.processes != 0 else None
        asyncio.run(_serve(registry, paths, guardian, template, configured))
    return 0


def _be_urgent(nice: int) -> None:
    """For this process and all it forks: who waits for a disk waits for us (docs/adr/0004)."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        log.info("not allowed to run with nice %d (CAP_SYS_NICE); this one is as urgent as others", nice)


def load_handlers(directory: Path | None, stacks: Sequence[StackSettings] = ()) -> Registry:
    """Handlers of installed packages and of a directory, and stacks over them. Raises ConfigError where a
    stack cannot be."""
    registry = Registry()
    registry.load_entry_points()
    if directory is not None:
        registry.load_directory(directory)
    for stack in stacks:
        registry.add_stack(stack.name, stack.handler, stack.layers, stack.description)
    return registry


def _template(registry: Registry, paths: Paths, configured: Settings) -> Template:
    workers = configured.workers
    limits = Confinement(workers.user, workers.memory, workers.open_files)
    shared = workers.processes is not None

    def make_worker(control: socket.socket) -> Worker:
        return Worker(control, registry, paths, limits, configured.devices, shared=shared)

    return Template.start(make_worker, reopen_log)


async def _serve(
    registry: Registry, paths: Paths, guardian: Guardian, template: Template | None, configured: Settings
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reopen_log)

    pool = Pool(template, configured.workers.processes) if template is not None else None

    def make_server(entry: UioEntry, trouble: Trouble) -> Server:
        if pool is None:
            return LocalServer(entry, registry, paths, configured.devices, trouble)
        return WorkerServer(entry, pool, trouble)

    fleet = Fleet(registry, paths, guardian, make_server)
    foreign = Foreign(registry)
    loop.add_signal_handler(signal.SIGUSR1, report, fleet)
    async with _site(fleet, configured.metrics), _on_dbus(registry, fleet, foreign):
        await Frontend(fleet, paths, guardian, ServiceManager(), foreign).run(stop)
    if template is not None:
        template.close()
    log.info("stopped")


@asynccontextmanager
async def _site(watchable: Watchable, wanted: Metrics) -> AsyncIterator[None]:
    """Whoever wants to see the daemon must not keep it from its work: where it cannot listen, it says so."""
    if not wanted.port:
        yield
        return
    from tcmu_runner.web.site import Site  # noqa: PLC0415 - for no worker, and for nobody who has it off

    site = Site(watchable, wanted.names)
    try:
        await site.open(wanted.host, wanted.port)
    except OSError as error:
        log.error("no status page and no metrics: %s; correct [metrics] in the settings", error)
    try:
        yield
    finally:
        site.close()


def _on_dbus(registry: Registry, fleet: Fleet, foreign: Foreign) -> AbstractAsyncContextManager[None]:
    """D-Bus for the time of the block, where its library is: loaded here, it costs workers nothing."""
    try:
        from tcmu_runner.dbus.external import Externals  # noqa: PLC0415
        from tcmu_runner.dbus.presence import presence  # noqa: PLC0415
    except ImportError as error:
        log.warning(
            "not on D-Bus, so that targetcli does not see our handlers: %s; install dbus-fast (Debian: "
            "python3-dbus-fast)",
            error,
        )
        return nullcontext()
    externals = Externals(registry)
    foreign.registered = externals  # they serve their devices by themselves
    return presence(registry, fleet, version("tcmu-runner"), externals)


def report(watchable: Watchable) -> None:
    """SIGUSR1: writes what each device has done, and is doing, to the log."""
    for device in watchable.devices():
        log.info("%s: %s", device.name, device.state.value)
        for line in summary(device.statistics):
            log.info("%s: %s", device.name, line)


def _set_up_log(options: Options) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if options.log_dir is not None:
        path = options.log_dir / LOG_NAME
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.close(descriptor)  # made with its mode before logging opens it
        handlers.append(logging.handlers.WatchedFileHandler(path))
    logging.basicConfig(level=options.log_level, format=FORMAT, handlers=handlers)


def reopen_log() -> None:
    """SIGHUP, as logrotate sends it: the log file was renamed."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()
