"""All devices that are served, and what is done to each of them, one thing at a time."""

from __future__ import annotations

import asyncio
import errno
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from logging import ERROR, INFO, WARNING

from tcmu_runner.aio import Tasks, in_thread
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import DeviceError, TcmuError, TransportGoneError, explain
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.handler.device import Origin, without_hba
from tcmu_runner.handler.registry import Provider, Registry
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.ring_monitor import RingMonitor
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.supervisor.admission import OpenLimiter
from tcmu_runner.supervisor.backoff import RestartBackoff
from tcmu_runner.supervisor.device import KernelDevice
from tcmu_runner.supervisor.journal import Journal, Record
from tcmu_runner.supervisor.origins import ServedBefore
from tcmu_runner.supervisor.serials import Serials, Twins
from tcmu_runner.units import format_size
from tcmu_runner.workers.handle import WorkerDiedError
from tcmu_runner.workers.protocol import Table
from tcmu_runner.workers.server import MakeServer, Server

DRAIN_SECONDS = 25.0  # below the 30 s after which the kernel fails a command
SERIAL_SECONDS = 5.0  # LIO's tools set the serial soon after they have enabled a device
LONGEST_DRAIN = 60.0  # a removal waits for it, and the kernel complains of who waits for two minutes


class RefusedError(DeviceError):
    """The device's record, and so the log, has it already."""


class DeviceManager:
    """On the event loop. What takes an entry or a device of the kernel's is for the front end, which holds
    the minor's `turn` meanwhile; the rest is engine.observe.view.Controllable, for everybody."""

    def __init__(
        self,
        registry: Registry,
        paths: Paths,
        guardian: Guardian,
        ring_monitor: RingMonitor,
        make_server: MakeServer,
        *,
        served_before: ServedBefore,
        serials: Serials,
        problems: Callable[[], list[str]] = list,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """pause: waits for so many seconds, before a device is tried again."""
        self.problems = problems
        self._registry = registry
        self._pause = pause
        self._paths = paths
        self._guardian = guardian
        self._ring_monitor = ring_monitor
        self._make_server = make_server
        self._before = served_before
        self._serials = serials
        self._twins = Twins(paths)
        self._comparing: asyncio.TimerHandle | None = None
        self._served: dict[int, KernelDevice] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._journal = Journal()
        self._backoff = RestartBackoff()
        self._broken: set[KernelDevice] = set()  # their server has ended, and was not replaced since
        self._open_limiter = OpenLimiter()
        self._tasks = Tasks()

    # -- what anybody may see -------------------------------------------------------------------------

    def devices(self) -> list[DeviceView]:
        return [record.view() for record in self._journal]

    def device_events(self) -> list[DeviceEvent]:
        return self._journal.device_events()

    def handlers(self) -> list[Provider]:
        return list(self._registry)

    def watch(self, changed: Callable[[str], None]) -> None:
        self._journal.watch(changed)

    # -- what an administrator may ask for ------------------------------------------------------------

    async def drain(self, name: str, seconds: float) -> bool:
        device = self._find(name).device
        if not 0 <= seconds <= LONGEST_DRAIN:
            raise DeviceError(
                f"{name}: cannot wait {seconds:g} s: give 0 to {LONGEST_DRAIN:g} s", errno.EINVAL
            )
        async with self.turn(device.entry.minor):
            if (state := self._journal.state(device)) is not State.SERVING:
                raise DeviceError(
                    f"{name} is {state.value if state else 'gone'}: only one that is served can be drained"
                )
            drained = await device.drain(seconds)
            if drained:
                self._journal.note(device, INFO, "drained: blocked until its restart", State.STOPPED)
            else:
                self._journal.note(device, WARNING, f"not drained: commands are older than {seconds:g} s")
            return drained

    async def restart(self, name: str) -> None:
        device = self._find(name).device
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is device:
                self._journal.note(device, INFO, "restarted on request", State.RECOVERING)
                await self._restart(device)
            elif self._journal.state(device) is State.FAILED:
                await self._take_over(device)

    async def resize(self, name: str, size: int) -> None:
        """By way of the kernel, which asks us and then knows the new size, too."""
        record = self._find(name)
        entry = record.device.entry
        store = Backstore(entry.name.hba, entry.name.device, self._paths)
        before = record.last_error
        try:
            await in_thread(lambda: store.set_size(size))
        except OSError as error:
            told = record.last_error is not before  # by us; it may be the same text again
            text = record.last_error if told else str(error)
            raise DeviceError(f"{name}: {text}", error.errno or errno.EIO) from error

    async def control(self, name: str, layer: str, table: Table) -> Table:
        device = self._find(name).device
        async with self.turn(device.entry.minor):
            try:
                told = await device.control(layer, table)
            except TimeoutError:
                raise DeviceError(f"{name}: {layer} does not answer: look at the log") from None
            except (TcmuError, OSError) as error:
                code, text = explain(error)
                raise DeviceError(f"{name}: {text}", code) from error
            if table:
                self._journal.note(device, INFO, f"{layer} is changed: {table}")
            return told

    async def adjust(self, name: str, overrides: Overrides) -> None:
        """The settings say something else of the device now; a server that starts later is told anyhow."""
        device = self._find(name).device
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is not device:
                return
            try:
                await device.adjust(overrides)
            except Exception as error:
                text = f"the new settings of {name} take effect at its restart: {explain(error)[1]}"
                self._journal.note(device, WARNING, text)
            else:
                self._journal.note(device, INFO, "identity and limits as the settings now say")

    def _find(self, name: str) -> Record:
        for record in self._journal:
            if record.device.name == name:
                return record
        known = ", ".join(record.device.name for record in self._journal) or "none"
        raise DeviceError(f"no device {name!r}; there are: {known}", errno.ENODEV)

    # -- what the kernel says -------------------------------------------------------------------------

    def turn(self, minor: int) -> asyncio.Lock:
        """Held by whoever does something to a device: one thing at a time."""
        return self._turns[minor]

    def at(self, minor: int) -> KernelDevice | None:
        """The device that is served under this minor, or was and will be again."""
        return self._served.get(minor)

    def device(self, entry: UioEntry) -> KernelDevice:
        """A device that is not served yet."""

        def make_server(device: KernelDevice, running: bool) -> Server:
            def trouble(error: Exception) -> None:
                self._tasks.spawn(self._recover(device, error))

            origin = Origin.RUNNING if running else self._before.origin(entry.name)
            return self._make_server(entry, trouble, origin)

        return KernelDevice(entry, self._paths, self._open_limiter, self._ring_monitor, make_server)

    async def add(self, entry: UioEntry) -> None:
        """Raises RefusedError."""
        if entry.minor in self._served:  # the kernel uses the minor again, and could not announce the removal
            await self.remove(entry.minor)
        device = self.device(entry)
        self._journal.open(device)
        self._check_name(device)
        try:
            await self._give_serial(device, existed=False)
            await device.open()
        except Exception as error:
            code, text = explain(error)
            self._journal.note(device, ERROR, f"refused: {text}")
            self._journal.close(entry.minor)
            raise RefusedError(text, code) from error
        await self._keep(device, "added")

    async def adopt(self, entry: UioEntry) -> None:
        """One that existed before this daemon, or came unseen. A failure is told, and leaves it FAILED."""
        async with self.turn(entry.minor):
            with suppress(RefusedError):
                await self._take_over(self.device(entry))

    async def _take_over(self, device: KernelDevice) -> None:
        self._journal.open(device)
        self._check_name(device)
        try:
            self._registry.check(device.entry.name.config)  # another daemon's device is left alone
            await self._give_serial(device, existed=True)
            await device.adopt()
        except Exception as error:
            code, text = explain(error)
            level = INFO if isinstance(error, TransportGoneError) else ERROR  # an administrator was faster
            self._journal.note(device, level, f"cannot be taken over: {text}", State.FAILED)
            raise RefusedError(text, code) from error
        await self._keep(device, "taken over")

    async def _keep(self, device: KernelDevice, how: str) -> None:
        self._served[device.entry.minor] = device
        self._guardian.serving(device.entry.name.hba, device.entry.name.device)
        geometry = f"{format_size(device.size)} in blocks of {device.block_size} bytes"
        self._note_service(device, f"{how}, {geometry}")
        await in_thread(lambda: self._before.note(device.entry.name))
        self._compare_later()

    async def settle(self) -> None:
        """All devices that existed before this daemon have been found."""
        await in_thread(self._serials.settle)

    def _check_name(self, device: KernelDevice) -> None:
        # One of the very same name is gone: its removal was missed, and is yet to be noticed.
        names = [each.name for each in self._served.values() if each.name != device.name]
        if same := [name for name in names if without_hba(name) == without_hba(device.name)]:
            text = f"same name as {', '.join(same)}: settings and files of filters go by the name, and are "
            self._journal.note(device, WARNING, text + "those of both: choose another name")

    async def _give_serial(self, device: KernelDevice, *, existed: bool) -> None:
        store = Backstore(device.entry.name.hba, device.entry.name.device, self._paths)
        await in_thread(lambda: self._serials.give(store, existed=existed))

    def _compare_later(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
        later = asyncio.get_running_loop().call_later
        self._comparing = later(SERIAL_SECONDS, lambda: self._tasks.spawn(self._compare()))

    async def _compare(self) -> None:
        """Holds no turn: what it reads may wait for the end of a removal, which takes the turn."""
        found = await in_thread(self._twins.new)
        for record in self._journal:
            if text := found.get(record.device.name):
                self._journal.note(record.device, WARNING, text)

    async def remove(self, minor: int) -> None:
        """It is gone; its storage is closed when this returns."""
        device = self._served.pop(minor, None)
        if device is not None:
            self._serials.forget(device.name)
            self._backoff.forget(device)
            self._broken.discard(device)
            self._guardian.dropped(device.entry.name.hba, device.entry.name.device)
            await device.remove()
            self._journal.note(device, INFO, "removed")
        self._journal.close(minor)

    async def set_size(self, device: KernelDevice, size: int) -> None:
        """Raises RefusedError: it has the size it had."""
        before = device.size
        try:
            await device.resize(size)
        except Exception as error:
            code, text = explain(error)
            self._journal.note(device, ERROR, f"cannot be resized to {size} bytes: {text}")
            raise RefusedError(text, code) from error
        if size != before:  # tools write it again when they restore
            self._journal.note(device, INFO, f"resized to {format_size(size)}")

    def set_config(self, device: KernelDevice, config: str) -> None:
        """Raises RefusedError unless it is what the device has: tools write it again when they restore."""
        if config != device.entry.name.config:
            text = "a new dev_config needs a new device: remove it and create it again"
            self._journal.note(device, ERROR, text)
            raise RefusedError(text, errno.EOPNOTSUPP)

    async def set_write_cache(self, device: KernelDevice, on: bool) -> None:
        """Raises RefusedError unless it is what the device has: an administrator who switched the cache on
        behind an initiator that believes in its absence would lose that one's data."""
        if on != await in_thread(device.write_cache):
            text = (
                "emulate_write_cache shows the write cache and does not switch it: have an initiator do so "
                f"(sdparm --{'set' if on else 'clear'}=WCE DISK)"
            )
            self._journal.note(device, ERROR, text)
            raise RefusedError(text, errno.EOPNOTSUPP)

    async def forget(self, device: KernelDevice) -> None:
        """The kernel has removed it without an event, as it does while events are blocked."""
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is device:
                await self.remove(device.entry.minor)

    # -- trouble and the end --------------------------------------------------------------------------

    async def _recover(self, device: KernelDevice, error: Exception) -> None:
        if isinstance(error, TransportGoneError):
            await self.forget(device)
            return
        if self._journal.state(device) in (None, State.STOPPED):
            return
        self._broken.add(device)
        self._journal.enter(device, State.RECOVERING)
        telling = asyncio.ensure_future(self._tell_of(device, error))
        count, delay = self._backoff.trouble(device)
        if delay:
            await telling
            await self._wait(device, count, delay)
        async with self.turn(device.entry.minor):
            if self._needs_server(device):
                self._journal.enter(device, State.RECOVERING)
                with suppress(RefusedError):
                    await self._restart(device, telling)
        await telling

    def _needs_server(self, device: KernelDevice) -> bool:
        """Whether its server has ended, and neither a restart nor a drain came since."""
        waits = self._journal.state(device) in (State.RECOVERING, State.WAITING)
        return waits and device in self._broken

    async def _wait(self, device: KernelDevice, count: int, delay: float) -> None:
        """Lets initiators retry for `delay` seconds, unless an administrator has restarted it already."""
        if not self._needs_server(device):
            return
        text = f"in trouble {count} times in a row, next try in {delay:.1f} s"
        self._journal.note(device, WARNING, text, State.WAITING)
        async with self.turn(device.entry.minor):
            if self._needs_server(device):
                with suppress(OSError):  # they wait for an answer then
                    await device.hold()
        await self._pause(delay)

    async def _tell_of(self, device: KernelDevice, error: Exception) -> None:
        """Initiators do not wait for the log to know the cause."""
        if isinstance(error, WorkerDiedError):
            await error.explained()
        if self._journal.state(device) is not None:
            self._journal.note(device, ERROR, f"{error}; everything under way is retried")

    async def _restart(self, device: KernelDevice, told: Awaitable[None] | None = None) -> None:
        """Raises RefusedError: it is tried again then. told: what is to be in the log before."""
        self._broken.discard(device)  # what ends from now on is its next server
        try:
            await device.restart()
        except Exception as error:
            self._tasks.spawn(self._recover(device, error))
            code, text = explain(error)
            raise RefusedError(text, code) from error
        self._backoff.served(device)
        if told is not None:
            await told
        self._note_service(device, "served again")

    def _note_service(self, device: KernelDevice, text: str) -> None:
        """Keeps the state of a device if its new server has ended already: `_recover` waits for the turn."""
        self._journal.note(device, INFO, text, None if device in self._broken else State.SERVING)

    def look_after(self) -> bool:
        """To be called about every second. False: nothing happens on any ring, and the ring monitor shows
        when that changes."""
        return sum(device.watch() for device in self._served.values()) > 0  # each is asked

    async def stop(self) -> None:
        """Lets all commands under way end, and leaves the devices blocked."""

        async def stop(device: KernelDevice) -> None:
            async with self.turn(device.entry.minor):
                try:
                    if not await device.stop(DRAIN_SECONDS):
                        text = f"its commands did not end in {DRAIN_SECONDS:.0f} s, and are retried"
                        self._journal.note(device, WARNING, text)
                except Exception as error:  # the others have to stop in order
                    self._journal.note(device, ERROR, f"not stopped in order: {explain(error)[1]}")
                self._journal.enter(device, State.STOPPED)

        await asyncio.gather(*(stop(device) for device in list(self._served.values())))
