"""The composition root: settings, lock, processes, supervisor, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from tcmu_runner.engine.observe.stats_text import summary
from tcmu_runner.engine.observe.view import Watchable
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.storage.blocking import MORE_CAUTION
from tcmu_runner.errors import DeviceError
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.modules import load_target_core_user
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.lock import DaemonLock
from tcmu_runner.logs import Logs
from tcmu_runner.sandbox import Confinement
from tcmu_runner.settings import Coexistence, Metrics, Workers
from tcmu_runner.supervisor.coexistence import OtherDaemons
from tcmu_runner.supervisor.device_manager import DeviceManager
from tcmu_runner.supervisor.events import NetlinkEvents
from tcmu_runner.supervisor.live_settings import Configuration, Options
from tcmu_runner.supervisor.origins import ServedBefore
from tcmu_runner.supervisor.serials import Serials
from tcmu_runner.systemd import ServiceManager
from tcmu_runner.workers.forkserver import ForkServer
from tcmu_runner.workers.pool import Pool, WorkerServer
from tcmu_runner.workers.server import DeviceServer, LocalServer, Trouble
from tcmu_runner.workers.worker import Worker

if TYPE_CHECKING:
    from tcmu_runner.dbus.external import Externals

LOCK_SECONDS = 10.0
BOOST = 10  # by how much nice(2) of the supervisor and of starting workers is below that of serving ones

log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status. Raises TcmuError or OSError to be shown."""
    logs = Logs()
    configuration = Configuration(options, logs)
    configuration.load()
    _be_urgent(configuration.settings.workers)
    lock_path = configuration.settings.coexistence.lock
    with DaemonLock(lock_path) as lock:
        lock.acquire(LOCK_SECONDS)
        paths = Paths()
        load_target_core_user(paths)
        guardian = Guardian.start(paths, lambda: DaemonLock(lock_path), logs)
        fork_server = _fork_server(configuration, paths, logs, guardian)
        asyncio.run(_serve(configuration, paths, guardian, fork_server))
    return 0


def _be_urgent(workers: Workers) -> None:
    """Raises the priority of this process and of workers until they serve: initiators wait for a new worker
    longer than for a command, and `enable` waits for the supervisor (docs/adr/0028)."""
    nice = workers.nice if workers.processes == 0 else max(workers.nice - BOOST, -20)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        log.info("not allowed to run with nice %d (CAP_SYS_NICE): priority unchanged", nice)


def _fork_server(
    configuration: Configuration, paths: Paths, logs: Logs, guardian: Guardian
) -> ForkServer | None:
    workers = configuration.settings.workers
    if workers.processes == 0:
        return None
    limits = Confinement(workers.user, workers.memory, workers.open_files, workers.nice)
    shared = workers.processes is not None

    def make_worker(control: socket.socket) -> Worker:
        return Worker(control, configuration.registry, paths, limits, logs, shared=shared)

    return ForkServer.start(make_worker, logs, guardian.fall_silent)


async def _serve(
    configuration: Configuration, paths: Paths, guardian: Guardian, fork_server: ForkServer | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, configuration.reopen_logs)

    processes = configuration.settings.workers.processes
    pool = Pool(fork_server, processes, stop.set) if fork_server is not None else None
    registry = configuration.registry
    rings = RingThread("rings", MORE_CAUTION)  # for workers = 0, when this process serves all devices

    serials = Serials()

    def make_server(entry: UioEntry, trouble: Trouble, origin: Origin) -> DeviceServer:
        name = f"user_{entry.name.hba}/{entry.name.device}"
        terms = configuration.terms(name, entry.name.config)
        terms = replace(terms, origin=origin, serial=serials.of(name))
        if pool is None:
            return LocalServer(entry, registry, paths, terms, trouble, thread=rings)
        return WorkerServer(entry, pool, terms, trouble)

    device_manager = DeviceManager(
        registry, paths, guardian, make_server,
        served_before=ServedBefore(), serials=serials, problems=configuration.problems,
    )  # fmt: skip
    other_daemons = OtherDaemons(registry, configuration.settings.coexistence.others)
    reachable = _reachable(registry, device_manager, other_daemons, configuration.settings.coexistence)
    loop.add_signal_handler(signal.SIGUSR1, report, device_manager)
    with configuration.follow(device_manager, guardian, *([pool] if pool is not None else [])):
        async with _site(device_manager, configuration.settings.metrics), reachable:
            await NetlinkEvents(
                device_manager, paths, guardian, ServiceManager(), other_daemons=other_daemons
            ).run(stop)
    if pool is not None:
        pool.close()
    if fork_server is not None:
        fork_server.close()
    if pool is not None and pool.lost:
        raise DeviceError("the template process has ended, and all workers with it: start tcmu-runner again")
    log.info("stopped")


@asynccontextmanager
async def _site(watchable: Watchable, wanted: Metrics) -> AsyncIterator[None]:
    """Status page and metrics. If they cannot listen, logs the reason and serves without them."""
    if not wanted.port:
        yield
        return
    from tcmu_runner.web.site import Site  # noqa: PLC0415 - not loaded in workers, nor when it is off

    site = Site(watchable, wanted.names)
    try:
        await site.open(wanted.host, wanted.port)
    except OSError as error:
        log.error("no status page and no metrics: %s: correct [metrics] in the settings", error)
    try:
        yield
    finally:
        site.close()


@asynccontextmanager
async def _reachable(
    registry: Registry, device_manager: DeviceManager, other_daemons: OtherDaemons, wanted: Coexistence
) -> AsyncIterator[None]:
    """Serves D-Bus and the control socket; imported here, so that workers do not load them."""
    from tcmu_runner.dbus.control_socket import control_socket  # noqa: PLC0415
    from tcmu_runner.dbus.devices import DevicesBranch  # noqa: PLC0415
    from tcmu_runner.dbus.external import Externals  # noqa: PLC0415
    from tcmu_runner.dbus.service import ServiceBranch  # noqa: PLC0415

    externals = other_daemons.registered = Externals(registry)  # those processes serve their own devices
    branches = ServiceBranch(registry, externals), DevicesBranch(device_manager, version("tcmu-runner"))
    async with (
        control_socket(wanted.control, branches),
        _on_dbus(registry, device_manager, externals, wanted.bus_name),
    ):
        yield


def _on_dbus(
    registry: Registry, device_manager: DeviceManager, externals: Externals, name: str
) -> AbstractAsyncContextManager[None]:
    """Serves D-Bus if its library is installed."""
    try:
        from tcmu_runner.dbus.presence import presence  # noqa: PLC0415
    except ImportError as error:
        log.warning(
            "not on D-Bus, so that targetcli does not see our handlers: %s: install dbus-fast (Debian: "
            "python3-dbus-fast)",
            error,
        )
        return nullcontext()
    return presence(registry, device_manager, version("tcmu-runner"), externals, name)


def report(watchable: Watchable) -> None:
    """For SIGUSR1: logs state and statistics of each device."""
    for device in watchable.devices():
        log.info("%s: %s", device.name, device.state.value)
        for line in summary(device.statistics):
            log.info("%s: %s", device.name, line)
