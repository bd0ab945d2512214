"""The composition root: settings, lock, processes, front end, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib.metadata import version

from tcmu_runner.configuration import Configuration, Options
from tcmu_runner.engine.figures import summary
from tcmu_runner.engine.pace import MORE_CAUTION
from tcmu_runner.engine.ring_thread import RingThread
from tcmu_runner.engine.view import Watchable
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.alarm import Alarm
from tcmu_runner.kernel.fleet import Fleet
from tcmu_runner.kernel.foreign import Foreign
from tcmu_runner.kernel.frontend import Frontend
from tcmu_runner.kernel.guardian import Guardian
from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.modules import load_target_core_user
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.pool import Pool, WorkerServer
from tcmu_runner.kernel.processes import Confinement
from tcmu_runner.kernel.servers import LocalServer, Server, Trouble
from tcmu_runner.kernel.template import Template
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.kernel.worker import Worker
from tcmu_runner.logs import Log
from tcmu_runner.settings import Metrics, Workers
from tcmu_runner.systemd import ServiceManager

LOCK_SECONDS = 10.0
HASTE = 10  # by how much who makes a worker ready goes before those that serve; see nice(2)

log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status; raises TcmuError or OSError to be shown."""
    logs = Log()
    configuration = Configuration(options, logs)
    configuration.load()
    _be_urgent(configuration.settings.workers)
    lock_path = configuration.settings.coexistence.lock
    with DaemonLock(lock_path) as lock:
        lock.acquire(LOCK_SECONDS)
        paths = Paths()
        load_target_core_user(paths)
        guardian = Guardian.start(paths, lambda: DaemonLock(lock_path), logs)
        template = _template(configuration, paths, logs)
        asyncio.run(_serve(configuration, paths, guardian, template))
    return 0


def _be_urgent(workers: Workers) -> None:
    """For this process and all it forks, workers until they serve: who waits for a disk waits for us, and who
    waits for a new worker waits for more than a command (docs/adr/0004)."""
    nice = workers.nice if workers.processes == 0 else max(workers.nice - HASTE, -20)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        log.info("not allowed to run with nice %d (CAP_SYS_NICE); this one is as urgent as others", nice)


def _template(configuration: Configuration, paths: Paths, logs: Log) -> Template | None:
    workers = configuration.settings.workers
    if workers.processes == 0:
        return None
    limits = Confinement(workers.user, workers.memory, workers.open_files, workers.nice)
    shared = workers.processes is not None

    def make_worker(control: socket.socket) -> Worker:
        return Worker(control, configuration.registry, paths, limits, logs, shared=shared)

    return Template.start(make_worker, logs)


async def _serve(
    configuration: Configuration, paths: Paths, guardian: Guardian, template: Template | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, configuration.reopen_logs)

    processes = configuration.settings.workers.processes
    pool = Pool(template, processes, stop.set) if template is not None else None
    registry = configuration.registry
    rings = RingThread("rings", MORE_CAUTION)  # of this process, where there are no others

    def make_server(entry: UioEntry, trouble: Trouble, urgent: bool) -> Server:
        terms = configuration.terms(f"user_{entry.name.hba}/{entry.name.device}", entry.name.config)
        if pool is None:
            return LocalServer(entry, registry, paths, terms, trouble, thread=rings)
        return WorkerServer(entry, pool, terms, trouble, urgent=urgent)

    alarm = Alarm()
    fleet = Fleet(registry, paths, guardian, alarm, make_server)
    foreign = Foreign(registry, configuration.settings.coexistence.others)
    bus = _on_dbus(registry, fleet, foreign, configuration.settings.coexistence.bus_name)
    loop.add_signal_handler(signal.SIGUSR1, report, fleet)
    with configuration.follow(fleet, guardian, *([pool] if pool is not None else [])):
        async with _site(fleet, configuration.settings.metrics), bus:
            await Frontend(fleet, paths, guardian, alarm, ServiceManager(), foreign=foreign).run(stop)
    if template is not None:
        template.close()
    if pool is not None and pool.lost:
        raise DeviceError("the template process has ended, and all workers with it: start tcmu-runner again")
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


def _on_dbus(
    registry: Registry, fleet: Fleet, foreign: Foreign, name: str
) -> AbstractAsyncContextManager[None]:
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
    return presence(registry, fleet, version("tcmu-runner"), externals, name)


def report(watchable: Watchable) -> None:
    """SIGUSR1: writes what each device has done, and is doing, to the log."""
    for device in watchable.devices():
        log.info("%s: %s", device.name, device.state.value)
        for line in summary(device.statistics):
            log.info("%s: %s", device.name, line)
