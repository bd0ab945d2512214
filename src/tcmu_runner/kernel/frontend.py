"""Front end 1, the real kernel: netlink events in, devices served, replies out.

Everything that may block runs on threads; the event loop only decides. No event stays unanswered: an opening
that takes too long is refused, and whatever comes of it later is undone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import TypeVar

from tcmu_runner.engine.transport import TransportGoneError
from tcmu_runner.errors import TcmuError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.device import KernelDevice
from tcmu_runner.kernel.genl import ConfigChange, Event, EventKind, SizeChange
from tcmu_runner.kernel.guardian import BEAT_SECONDS, Guardian
from tcmu_runner.kernel.modules import NetlinkGate, load_target_core_user
from tcmu_runner.kernel.netlink import EventsLost, TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioEntry, scan
from tcmu_runner.units import format_size

OPEN_SECONDS = 10.0  # how long an administrator's `enable` may wait for a handler's open
DRAIN_SECONDS = 25.0  # below the 30 s after which the kernel fails a command

log = logging.getLogger(__name__)

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result]) -> Result:
    """A thread of its own for each call: one that hangs for ever takes no other's place."""
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def deliver(result: Result | None, error: BaseException | None) -> None:
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            loop.call_soon_threadsafe(deliver, None, error)
        else:
            loop.call_soon_threadsafe(deliver, result, None)

    threading.Thread(target=run, name=getattr(call, "__name__", "call"), daemon=True).start()
    return await future


def reason(error: BaseException) -> tuple[int, str]:
    """(negative errno for the kernel, sentence for the log) of what an opening or resize raised."""
    if isinstance(error, TimeoutError) and not error.errno:
        return (
            -errno.ETIMEDOUT,
            f"the handler did not answer within {OPEN_SECONDS:.0f} s; is its storage reachable?",
        )
    if isinstance(error, TcmuError):
        return -error.errno, str(error)
    if isinstance(error, OSError) and error.errno:
        return -error.errno, f"{error}{HINTS.get(error.errno, '')}"
    return -errno.EIO, f"bug in the handler: {type(error).__name__}: {error}"


HINTS = {
    errno.ENOENT: ": create the directory, or correct the path in dev_config",
    errno.ENOTDIR: ": correct the path in dev_config",
    errno.EISDIR: ": name a file in it in dev_config",
    errno.EACCES: ": give the daemon's user access, or correct the path in dev_config",
    errno.EPERM: ": give the daemon's user access, or correct the path in dev_config",
    errno.EROFS: ": add ;read_only to dev_config, or mount the file system writable",
    errno.ENOSPC: ": free space on the file system",
}


class Frontend:
    """Serves every TCMU device of this machine whose subtype the registry knows."""

    def __init__(self, registry: Registry, paths: Paths, guardian: Guardian) -> None:
        self._registry = registry
        self._paths = paths
        self._guardian = guardian
        self._devices: dict[int, KernelDevice] = {}
        self._turn: defaultdict[int, asyncio.Lock] = defaultdict(
            asyncio.Lock
        )  # per minor: one thing at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._netlink: TcmuNetlink
        self._loop: asyncio.AbstractEventLoop
        self._gate = NetlinkGate(paths)

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains every device and leaves it blocked: initiators retry until
        a daemon is back. Raises TcmuError or OSError when the kernel has no TCMU for us."""
        self._loop = asyncio.get_running_loop()
        load_target_core_user(self._paths)
        self._gate.block_and_reset()
        self._netlink = TcmuNetlink()
        try:
            await self._adopt_all()
            self._gate.unblock()
            self._loop.add_reader(self._netlink.fileno(), self._receive)
            self._loop.add_reader(self._guardian.fileno(), self._catch_up)
            self._beat()
            await stop.wait()
            self._loop.remove_reader(self._netlink.fileno())
            self._loop.remove_reader(self._guardian.fileno())
            await self._stop_all()
            self._netlink.set_features(False)
            self._guardian.say_goodbye()
        finally:
            self._netlink.close()
            self._gate.unblock()

    # -- devices that exist already ---------------------------------------------------------------

    async def _adopt_all(self) -> None:
        found = [entry for entry in scan(self._paths) if entry.minor not in self._devices]
        await asyncio.gather(*(self._adopt(entry) for entry in found))
        log.info("%d handlers found, %d devices found", len(self._registry), len(self._devices))

    async def _adopt(self, entry: UioEntry) -> None:
        device = KernelDevice(entry.minor, entry.name, self._registry, self._paths, self._broken)
        async with self._turn[entry.minor]:
            try:
                await asyncio.wait_for(in_thread(device.adopt), OPEN_SECONDS)
            except Exception as error:
                device.abandon()
                log.error("%s: cannot be taken over: %s", device.title, reason(error)[1])
            else:
                self._keep(device)
                log.info("%s: taken over, %s", device.title, _what(device))

    # -- events -----------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            events = self._netlink.receive()
        except EventsLost as lost:
            events = lost.events
            log.warning("%s", lost)
            self._spawn(self._rescan())
        for event in events:
            self._spawn(self._handle(event))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, event: Event) -> None:
        steps = {
            EventKind.ADDED: self._added,
            EventKind.REMOVED: self._removed,
            EventKind.RECONFIG: self._reconfigured,
        }
        async with self._turn[event.minor]:
            try:
                status = await steps[event.kind](event)
            except Exception as error:  # whatever goes wrong, the administrator's command must not hang
                log.exception("%s: %s could not be handled", event.device, event.kind.name)
                status = reason(error)[0]
            self._netlink.reply(event, status)

    async def _added(self, event: Event) -> int:
        name = DeviceName.parse(event.device)
        known = self._devices.get(event.minor)
        if known is not None and known.name == name:
            return 0  # seen in a scan before its event
        device = KernelDevice(event.minor, name, self._registry, self._paths, self._broken)
        try:
            await asyncio.wait_for(in_thread(device.open), OPEN_SECONDS)
        except Exception as error:
            device.abandon()
            status, text = reason(error)
            log.error("%s: refused: %s", device.title, text)
            return status
        self._keep(device)
        log.info("%s: added, %s", device.title, _what(device))
        return 0

    async def _removed(self, event: Event) -> int:
        device = self._devices.get(event.minor)
        if device is not None:
            self._drop(device)
            await in_thread(device.close)
            log.info("%s: removed", device.title)
        return 0

    async def _reconfigured(self, event: Event) -> int:
        device = self._devices.get(event.minor)
        if device is None:
            return -errno.ENODEV
        change = event.change
        if isinstance(change, SizeChange):
            return await self._resize(device, change.size)
        if isinstance(change, ConfigChange) and change.config.rstrip("\n") != device.config:
            log.error("%s: a new dev_config needs a new device: remove it and create it again", device.title)
            return -errno.EOPNOTSUPP
        return 0  # nothing new, or the write cache, which initiators set with MODE SELECT

    async def _resize(self, device: KernelDevice, size: int) -> int:
        try:
            await asyncio.wait_for(in_thread(lambda: device.resize(size)), OPEN_SECONDS)
        except Exception as error:
            status, text = reason(error)
            log.error("%s: cannot be resized to %d: %s", device.title, size, text)
            return status
        log.info("%s: resized to %s", device.title, format_size(size))
        return 0

    async def _rescan(self) -> None:
        """Answers additions whose event was lost. Any other wait of the kernel is ended with EINTR: what it
        waits for cannot be told, and a wrong answer would hang it for good."""
        for entry in scan(self._paths):
            if entry.minor not in self._devices:
                await self._adopt_pending(entry)
        self._gate.block_and_reset()
        self._gate.unblock()

    async def _adopt_pending(self, entry: UioEntry) -> None:
        device = KernelDevice(entry.minor, entry.name, self._registry, self._paths, self._broken)
        pending = await in_thread(device.pending_addition)
        if pending is not None:
            await self._handle(pending)
        else:
            await self._adopt(entry)

    # -- the guardian -----------------------------------------------------------------------------

    def _beat(self) -> None:
        self._guardian.beat()
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _catch_up(self) -> None:
        """We stood still and the guardian ended the kernel's waits: waits are wanted again, and what was
        added or removed meanwhile has to be found."""
        if self._guardian.was_released():
            log.warning("stood still for some time; looking at all devices again")
            self._netlink.set_features(True)
            self._spawn(self._rescan())

    def _keep(self, device: KernelDevice) -> None:
        self._devices[device.minor] = device
        self._guardian.serving(device.name.hba, device.name.device)

    def _drop(self, device: KernelDevice) -> None:
        del self._devices[device.minor]
        self._guardian.dropped(device.name.hba, device.name.device)

    # -- trouble and the end ----------------------------------------------------------------------

    def _broken(self, device: KernelDevice, error: Exception) -> None:
        """Called on a ring's thread, which ends; the loop takes over."""
        self._loop.call_soon_threadsafe(lambda: self._spawn(self._recover(device, error)))

    async def _recover(self, device: KernelDevice, error: Exception) -> None:
        async with self._turn[device.minor]:
            if self._devices.get(device.minor) is not device:
                return
            if isinstance(error, TransportGoneError):
                self._drop(device)
                await in_thread(device.close)
                log.info("%s: removed", device.title)
                return
            log.error("%s: its ring cannot be served: %s; resetting it", device.title, error, exc_info=error)
            await in_thread(device.restart)

    async def _stop_all(self) -> None:
        async def stop(device: KernelDevice) -> None:
            async with self._turn[device.minor]:
                drained = await in_thread(lambda: device.stop(DRAIN_SECONDS))
            if not drained:
                log.warning(
                    "%s: commands did not end in %.0f s and will be retried", device.title, DRAIN_SECONDS
                )

        await asyncio.gather(*(stop(device) for device in self._devices.values()))


def _what(device: KernelDevice) -> str:
    return f"{format_size(device.size)} in blocks of {device.block_size} bytes"
