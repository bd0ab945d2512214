"""Front end 1, the real kernel: netlink events in, devices served, replies out.

Everything that may block runs on threads or in workers; the event loop only decides. No event stays
unanswered: an opening that takes too long is refused, and whatever comes of it later is undone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine

from tcmu_runner.engine.transport import TransportGoneError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.device import KernelDevice
from tcmu_runner.kernel.figures import summary
from tcmu_runner.kernel.genl import ConfigChange, Event, EventKind, SizeChange
from tcmu_runner.kernel.guardian import BEAT_SECONDS, GONE, RELEASED, Guardian
from tcmu_runner.kernel.modules import NetlinkGate, load_target_core_user
from tcmu_runner.kernel.netlink import EventsLost, TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.reasons import reason
from tcmu_runner.kernel.recovery import Recovery
from tcmu_runner.kernel.servers import Server, Trouble
from tcmu_runner.kernel.slots import Slots
from tcmu_runner.kernel.threads import in_thread
from tcmu_runner.kernel.uio import DeviceName, UioEntry, scan
from tcmu_runner.units import format_size

DRAIN_SECONDS = 25.0  # below the 30 s after which the kernel fails a command

MakeServer = Callable[[UioEntry, Trouble], Server]

log = logging.getLogger(__name__)


class Frontend:
    """Serves every TCMU device of this machine whose subtype the registry knows."""

    def __init__(self, registry: Registry, paths: Paths, guardian: Guardian, make_server: MakeServer) -> None:
        self._registry = registry
        self._paths = paths
        self._guardian = guardian
        self._make_server = make_server
        self._devices: dict[int, KernelDevice] = {}
        self._turn: defaultdict[int, asyncio.Lock] = defaultdict(
            asyncio.Lock
        )  # per minor: one thing at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery = Recovery()
        self._slots = Slots()
        self._gate = NetlinkGate(paths)
        self._netlink: TcmuNetlink
        self._loop: asyncio.AbstractEventLoop

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains every device and leaves it blocked: initiators retry until
        a daemon is back. Raises TcmuError or OSError when the kernel has no TCMU for us."""
        self._loop = asyncio.get_running_loop()
        load_target_core_user(self._paths)
        with self._gate, TcmuNetlink() as self._netlink:
            await self._adopt_all()
            self._gate.unblock()
            self._loop.add_reader(self._netlink.fileno(), self._receive)
            self._loop.add_reader(self._guardian.fileno(), self._catch_up)
            self._beat()
            await stop.wait()
            self._loop.remove_reader(self._netlink.fileno())
            self._loop.remove_reader(self._guardian.fileno())
            self._gate.block_and_reset()
            await self._stop_all()
            self._netlink.set_features(False)
            self._guardian.say_goodbye()

    def _device(self, entry: UioEntry) -> KernelDevice:
        def make_server(device: KernelDevice) -> Server:
            return self._make_server(entry, lambda error: self._spawn(self._recover(device, error)))

        return KernelDevice(entry, self._paths, self._slots, make_server)

    def _keep(self, device: KernelDevice) -> None:
        self._devices[device.entry.minor] = device
        self._guardian.serving(device.entry.name.hba, device.entry.name.device)

    def _drop(self, device: KernelDevice) -> None:
        del self._devices[device.entry.minor]
        self._recovery.forget(device)
        self._guardian.dropped(device.entry.name.hba, device.entry.name.device)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def report(self) -> None:
        """Writes what each device has done, and is doing, to the log (SIGUSR1)."""
        for device in self._devices.values():
            for line in summary(device.snapshot()):
                log.info("%s: %s", device.title, line)

    # -- devices that exist already ---------------------------------------------------------------

    async def _adopt_all(self) -> None:
        found = [entry for entry in scan(self._paths) if entry.minor not in self._devices]
        await asyncio.gather(*(self._adopt(entry) for entry in found))
        log.info("%d handlers found, %d devices found", len(self._registry), len(self._devices))

    async def _adopt(self, entry: UioEntry) -> None:
        device = self._device(entry)
        async with self._turn[entry.minor]:
            try:
                self._registry.check(entry.name.config)  # another daemon's device is left alone
                await device.adopt()
            except Exception as error:
                log.error("%s: cannot be taken over: %s", device.title, reason(error)[1])
            else:
                self._keep(device)
                log.info("%s: taken over, %s", device.title, _geometry(device))

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
                status = -reason(error)[0]
            await in_thread(lambda: self._netlink.reply(event, status))

    async def _added(self, event: Event) -> int:
        entry = UioEntry(event.minor, DeviceName.parse(event.device))
        known = self._devices.get(event.minor)
        if known is not None and known.entry == entry:
            return 0  # seen in a scan before its event
        device = self._device(entry)
        try:
            await device.open()
        except Exception as error:
            code, text = reason(error)
            log.error("%s: refused: %s", device.title, text)
            return -code
        self._keep(device)
        log.info("%s: added, %s", device.title, _geometry(device))
        return 0

    async def _removed(self, event: Event) -> int:
        device = self._devices.get(event.minor)
        if device is not None:
            self._drop(device)
            await device.close()
            log.info("%s: removed", device.title)
        return 0

    async def _reconfigured(self, event: Event) -> int:
        device = self._devices.get(event.minor)
        if device is None:
            return -errno.ENODEV
        change = event.change
        if isinstance(change, SizeChange):
            return await self._resize(device, change.size)
        if isinstance(change, ConfigChange) and change.config != device.entry.name.config:
            log.error("%s: a new dev_config needs a new device: remove it and create it again", device.title)
            return -errno.EOPNOTSUPP
        return 0  # nothing new, or the write cache, which initiators set with MODE SELECT

    async def _resize(self, device: KernelDevice, size: int) -> int:
        try:
            await device.resize(size)
        except Exception as error:
            code, text = reason(error)
            log.error("%s: cannot be resized to %d bytes: %s", device.title, size, text)
            return -code
        log.info("%s: resized to %s", device.title, format_size(size))
        return 0

    async def _rescan(self) -> None:
        """Answers additions whose event was lost. Nobody waits for any other lost event: the kernel fails a
        reconfiguration that was not delivered and goes on with a removal, which the ring's thread notices."""
        for entry in scan(self._paths):
            known = self._devices.get(entry.minor)
            if known is not None and known.entry.name != entry.name:
                await self._forget(known)  # the minor was used again
                known = None
            if known is None:
                await self._adopt_pending(entry)

    async def _adopt_pending(self, entry: UioEntry) -> None:
        pending = await in_thread(self._device(entry).pending_addition)
        if pending is not None:
            await self._handle(pending)
        else:
            await self._adopt(entry)

    # -- the guardian -----------------------------------------------------------------------------

    def _beat(self) -> None:
        self._guardian.beat()
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _catch_up(self) -> None:
        """The guardian is gone; or we stood still, and it ended the kernel's waits: waits are wanted again,
        and what was added or removed meanwhile has to be found."""
        heard = self._guardian.hear()
        if heard == RELEASED:
            log.warning("stood still for some time; looking at all devices again")
            self._netlink.set_features(True)
            self._spawn(self._rescan())
        elif heard == GONE:
            self._loop.remove_reader(self._guardian.fileno())
            log.error(
                "the guardian process has ended: should this one die, too, enable and rmdir will hang; "
                "restart tcmu-runner"
            )

    # -- trouble and the end ----------------------------------------------------------------------

    async def _recover(self, device: KernelDevice, error: Exception) -> None:
        if isinstance(error, TransportGoneError):
            await self._forget(device)
            return
        log.error("%s: %s; everything under way is retried", device.title, error)
        await self._recovery.wait_turn(device)
        async with self._turn[device.entry.minor]:
            if self._devices.get(device.entry.minor) is not device:
                return
            try:
                await device.restart()
            except Exception as failure:
                self._spawn(self._recover(device, failure))
            else:
                self._recovery.served(device)
                log.info("%s: served again", device.title)

    async def _forget(self, device: KernelDevice) -> None:
        """The kernel has removed it without an event, as it does while events are blocked."""
        async with self._turn[device.entry.minor]:
            if self._devices.get(device.entry.minor) is device:
                self._drop(device)
                await device.close()
                log.info("%s: removed", device.title)

    async def _stop_all(self) -> None:
        async def stop(device: KernelDevice) -> None:
            async with self._turn[device.entry.minor]:
                if not await device.stop(DRAIN_SECONDS):
                    log.warning("%s: its commands did not end in %.0f s", device.title, DRAIN_SECONDS)

        await asyncio.gather(*(stop(device) for device in list(self._devices.values())))


def _geometry(device: KernelDevice) -> str:
    return f"{format_size(device.size)} in blocks of {device.block_size} bytes"
