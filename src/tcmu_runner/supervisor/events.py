"""Events of the kernel in, devices served, replies out: ADDED, REMOVED and RECONFIG enter at `_receive`.

The event loop only decides; what may block runs on threads or in workers. Each event gets a reply: an opening
that exceeds its time limit is refused, and undone should it succeed later.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import assert_never

from tcmu_runner.aio import Tasks, in_thread
from tcmu_runner.errors import explain
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.guardian.process import GONE, RELEASED
from tcmu_runner.kernel.genl import ConfigChange, Event, EventKind, SizeChange, WriteCacheChange
from tcmu_runner.kernel.modules import NetlinkGate
from tcmu_runner.kernel.netlink import EventsLost, TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioEntry, scan
from tcmu_runner.supervisor.coexistence import OtherDaemons
from tcmu_runner.supervisor.device_manager import DeviceManager, DeviceRefusedError
from tcmu_runner.systemd import ServiceManager

BEAT_SECONDS = 1.0  # well below STALL_SECONDS of the guardian

log = logging.getLogger(__name__)


class NetlinkEvents:
    """Carries events of the kernel and the guardian to the device manager, and its answers to the kernel.

    manager: systemd, to which we report READY and watchdog pings.
    other_daemons: devices of others: we do not reply to their events.
    """

    def __init__(
        self,
        device_manager: DeviceManager,
        paths: Paths,
        guardian: Guardian,
        manager: ServiceManager,
        *,
        other_daemons: OtherDaemons,
    ) -> None:
        self._device_manager = device_manager
        self._other_daemons = other_daemons
        self._manager = manager
        self._paths = paths
        self._guardian = guardian
        self._tasks = Tasks()
        self._gate = NetlinkGate(paths)
        self._netlink: TcmuNetlink
        self._loop: asyncio.AbstractEventLoop
        self._next_beat: asyncio.TimerHandle

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains every device and leaves it blocked: initiators retry until
        the next daemon starts. Raises TcmuError or OSError when the kernel refuses."""
        self._loop = asyncio.get_running_loop()
        with self._gate, TcmuNetlink() as self._netlink:
            self._beat()  # an open below may take longer than the guardian waits for a heartbeat
            adopted = await self._adopt_all()
            self._gate.unblock()
            # Scripts wait for this line. Logged after the unblock: until then `enable` fails with EAGAIN.
            log.info("%d handlers found, %d devices found", len(self._device_manager.handlers()), adopted)
            self._loop.add_reader(self._netlink.fileno(), self._receive)
            self._loop.add_reader(self._guardian.fileno(), self._catch_up)
            self._reassure()
            self._manager.ready(f"{len(self._device_manager.devices())} devices at the start")
            await stop.wait()
            self._manager.stopping()
            self._loop.remove_reader(self._netlink.fileno())
            self._loop.remove_reader(self._guardian.fileno())
            self._gate.block_and_reset()
            await self._device_manager.stop()
            self._netlink.set_features(False)
            self._next_beat.cancel()
            self._guardian.say_goodbye()

    # -- devices that exist already ---------------------------------------------------------------

    async def _adopt_all(self) -> int:
        """Takes over the devices that exist; returns how many there were."""
        found = [entry for entry in self._scan() if self._device_manager.at(entry.minor) is None]
        await asyncio.gather(*(self._device_manager.adopt(entry) for entry in found))
        await self._device_manager.settle()
        return len(found)

    def _scan(self) -> list[UioEntry]:
        return [entry for entry in scan(self._paths) if entry.name.config not in self._other_daemons]

    # -- events -----------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            events = self._netlink.receive()
        except EventsLost as lost:
            events = lost.events
            log.warning("%s", lost)
            self._tasks.spawn(self._rescan())
        for event in events:
            if not self._other_daemons.concerns(event):
                self._tasks.spawn(self._handle(event))

    async def _handle(self, event: Event) -> None:
        steps = {
            EventKind.ADDED: self._added,
            EventKind.REMOVED: self._removed,
            EventKind.RECONFIG: self._reconfigured,
        }
        async with self._device_manager.turn(event.minor):
            status = 0
            try:
                await steps[event.kind](event)
            except DeviceRefusedError as refused:
                status = -refused.errno
            except Exception as error:  # reply in any case: without one the administrator's command hangs
                log.exception("%s: cannot handle %s: refused", event.device, event.kind.name)
                status = -explain(error)[0]
            await in_thread(lambda: self._netlink.reply(event, status))

    async def _added(self, event: Event) -> None:
        entry = UioEntry(event.minor, DeviceName.parse(event.device))
        known = self._device_manager.at(event.minor)
        if known is None or known.entry != entry:  # else a scan found the device before its event was read
            await self._device_manager.add(entry)

    async def _removed(self, event: Event) -> None:
        await self._device_manager.remove(event.minor)

    async def _reconfigured(self, event: Event) -> None:
        device = self._device_manager.at(event.minor)
        if device is None:
            raise DeviceRefusedError(f"{event.device} is not served", errno.ENODEV)
        match event.change:
            case SizeChange(size):
                await self._device_manager.set_size(device, size)
            case ConfigChange(config):
                self._device_manager.set_config(device, config)
            case WriteCacheChange(on):
                await self._device_manager.set_write_cache(device, on)
            case None:
                text = "a reconfiguration of a kind newer than this program"
                log.error("%s: %s: refused", event.device, text)
                raise DeviceRefusedError(text, errno.EOPNOTSUPP)
            case _:
                assert_never(event.change)

    async def _rescan(self) -> None:
        """Answers ADDED events that were lost. No other lost event needs a reply: the kernel fails a RECONFIG
        that it cannot deliver, and goes on with a removal, which the ring's thread notices."""
        for entry in self._scan():
            known = self._device_manager.at(entry.minor)
            if known is not None and known.entry.name != entry.name:
                await self._device_manager.forget(known)  # the kernel reused the minor
                known = None
            if known is None:
                await self._adopt_pending(entry)

    async def _adopt_pending(self, entry: UioEntry) -> None:
        pending = await in_thread(self._device_manager.device(entry).pending_addition)
        if pending is not None:
            await self._handle(pending)
        else:
            await self._device_manager.adopt(entry)

    # -- heartbeats -------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Tells the guardian once a second that the event loop runs, and looks after the devices."""
        self._guardian.beat()
        self._device_manager.look_after()
        self._next_beat = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _reassure(self) -> None:
        """Pings systemd's watchdog, if WatchdogSec is set: three times in each period."""
        if self._manager.watchdog_seconds:
            self._manager.ping()
            self._loop.call_later(self._manager.watchdog_seconds / 3, self._reassure)

    def _catch_up(self) -> None:
        """The guardian's socket is readable. RELEASED: our event loop stalled, and the guardian ended the
        kernel's waits and switched them off: switch them on and scan for devices added or removed meanwhile.
        GONE: the guardian has ended."""
        heard = self._guardian.told()
        if heard == RELEASED:
            log.warning("event loop stalled: kernel waits were released: rescanning devices")
            self._netlink.set_features(True)
            self._tasks.spawn(self._rescan())
        elif heard == GONE:
            self._loop.remove_reader(self._guardian.fileno())
            log.error(
                "the guardian process has ended: if the daemon dies, too, enable and rmdir will hang: "
                "restart tcmu-runner"
            )
