"""All served devices. What changes a device runs under its minor's lock (`turn`), one thing at a time."""

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
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.supervisor.admission import OpenLimiter
from tcmu_runner.supervisor.backoff import RestartBackoff
from tcmu_runner.supervisor.device import KernelDevice
from tcmu_runner.supervisor.journal import Journal, JournalRecord
from tcmu_runner.supervisor.origins import ServedBefore
from tcmu_runner.supervisor.serials import Serials, Twins
from tcmu_runner.units import format_size
from tcmu_runner.workers.handle import WorkerDiedError
from tcmu_runner.workers.protocol import Table
from tcmu_runner.workers.server import DeviceServer, MakeServer

DRAIN_SECONDS = 25.0  # below the 30 s after which the kernel fails a command
SERIAL_SECONDS = 5.0  # LIO's tools set the serial soon after they have enabled a device
LONGEST_DRAIN = 60.0  # a removal waits for it; the kernel logs a hung task after 120 s


class DeviceRefusedError(DeviceError):
    """Refused with this errno; the device's journal, and so the log, has the text already."""


class DeviceManager:
    """On the event loop. Methods that take a UioEntry or a KernelDevice are for NetlinkEvents, which holds
    the minor's `turn`; the others are engine.observe.view.Controllable, for D-Bus, the control socket and
    HTTP.

    problems: what does not work though LUNs are served, as sentences."""

    def __init__(
        self,
        registry: Registry,
        paths: Paths,
        guardian: Guardian,
        make_server: MakeServer,
        *,
        served_before: ServedBefore,
        serials: Serials,
        problems: Callable[[], list[str]] = list,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        serial_seconds: float = SERIAL_SECONDS,
    ) -> None:
        """pause: waits for so many seconds, before a device is tried again. serial_seconds: so long after the
        last new device, identifiers are compared."""
        self.problems = problems
        self._registry = registry
        self._pause = pause
        self._serial_seconds = serial_seconds
        self._paths = paths
        self._guardian = guardian
        self._make_server = make_server
        self._before = served_before
        self._serials = serials
        self._twins = Twins(paths)
        self._comparing: asyncio.TimerHandle | None = None
        self._served: dict[int, KernelDevice] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._journal = Journal()
        self._backoff = RestartBackoff()
        self._broken: set[KernelDevice] = set()  # their server has ended and has no successor yet
        self._open_limiter = OpenLimiter()
        self._tasks = Tasks()

    # -- for all: what there is -----------------------------------------------------------------------

    def devices(self) -> list[DeviceView]:
        return [record.view() for record in self._journal]

    def device_events(self) -> list[DeviceEvent]:
        return self._journal.device_events()

    def handlers(self) -> list[Provider]:
        return list(self._registry)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._journal.subscribe(changed)

    # -- for administrators ---------------------------------------------------------------------------

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
        """Writes dev_size: the kernel sends RECONFIG, which we answer, and then knows the new size, too."""
        record = self._find(name)
        entry = record.device.entry
        store = Backstore(entry.name.hba, entry.name.device, self._paths)
        before = record.last_error
        try:
            await in_thread(lambda: store.set_size(size))
        except OSError as error:
            told = record.last_error is not before  # by identity: set_size may have noted the same text again
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
                self._journal.note(device, INFO, f"{layer} changed: {table}")
            return told

    async def adjust(self, name: str, overrides: Overrides) -> None:
        """Applies new identity and limits from the settings; a server that starts later gets them anyway."""
        device = self._find(name).device
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is not device:
                return
            try:
                await device.adjust(overrides)
            except Exception as error:
                text = f"new settings not applied: {explain(error)[1]}: they take effect at its restart"
                self._journal.note(device, WARNING, text)
            else:
                self._journal.note(device, INFO, "settings changed: applied identity and limits")

    def _find(self, name: str) -> JournalRecord:
        for record in self._journal:
            if record.device.name == name:
                return record
        known = ", ".join(record.device.name for record in self._journal) or "none"
        raise DeviceError(f"no device {name!r}; there are: {known}", errno.ENODEV)

    # -- for netlink events ---------------------------------------------------------------------------

    def turn(self, minor: int) -> asyncio.Lock:
        """Hold it while you change the device of this minor."""
        return self._turns[minor]

    def at(self, minor: int) -> KernelDevice | None:
        """The device served under this minor, also while its server is being replaced."""
        return self._served.get(minor)

    def device(self, entry: UioEntry) -> KernelDevice:
        """A KernelDevice that is not served yet."""

        def make_server(device: KernelDevice, running: bool) -> DeviceServer:
            def trouble(error: Exception) -> None:
                self._tasks.spawn(self._recover(device, error))

            origin = Origin.RUNNING if running else self._before.origin(entry.name)
            return self._make_server(entry, trouble, origin)

        return KernelDevice(entry, self._paths, self._open_limiter, make_server)

    async def add(self, entry: UioEntry) -> None:
        """Raises DeviceRefusedError."""
        if entry.minor in self._served:  # the kernel reused the minor; the removal sent no event
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
            raise DeviceRefusedError(text, code) from error
        await self._keep(device, "added")

    async def adopt(self, entry: UioEntry) -> None:
        """A device that existed before this daemon, or its ADDED was lost. Logs a failure: state FAILED."""
        async with self.turn(entry.minor):
            with suppress(DeviceRefusedError):
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
            level = INFO if isinstance(error, TransportGoneError) else ERROR  # it was removed meanwhile
            self._journal.note(device, level, f"cannot be taken over: {text}", State.FAILED)
            raise DeviceRefusedError(text, code) from error
        await self._keep(device, "taken over")

    async def _keep(self, device: KernelDevice, how: str) -> None:
        self._served[device.entry.minor] = device
        self._guardian.serving(device.entry.name.hba, device.entry.name.device)
        geometry = f"{format_size(device.size)} in blocks of {device.block_size} bytes"
        self._note_service(device, f"{how}, {geometry}")
        await in_thread(lambda: self._before.note(device.entry.name))
        self._compare_later()

    async def settle(self) -> None:
        """Call once all devices that existed before this daemon have been found."""
        await in_thread(self._serials.settle)

    def _check_name(self, device: KernelDevice) -> None:
        # A device of the same full name is a former one; its removal has not been noticed yet: no clash.
        names = [each.name for each in self._served.values() if each.name != device.name]
        if same := [name for name in names if without_hba(name) == without_hba(device.name)]:
            text = f"same name as {', '.join(same)}: settings and filters' files go by the name, and mix up "
            self._journal.note(device, WARNING, text + "both: choose another name")

    async def _give_serial(self, device: KernelDevice, *, existed: bool) -> None:
        store = Backstore(device.entry.name.hba, device.entry.name.device, self._paths)
        await in_thread(lambda: self._serials.give(store, existed=existed))

    def _compare_later(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
        later = asyncio.get_running_loop().call_later
        self._comparing = later(self._serial_seconds, lambda: self._tasks.spawn(self._compare()))

    async def _compare(self) -> None:
        """Does not hold a turn: its reads of configfs may wait for a removal to end, which needs that
        turn."""
        found = await in_thread(self._twins.new)
        for record in self._journal:
            if text := found.get(record.device.name):
                self._journal.note(record.device, WARNING, text)

    async def remove(self, minor: int) -> None:
        """The kernel has removed the device; its storage is closed when this returns."""
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
        """Raises DeviceRefusedError: the size has not changed."""
        before = device.size
        try:
            await device.resize(size)
        except Exception as error:
            code, text = explain(error)
            self._journal.note(device, ERROR, f"cannot be resized to {size} bytes: {text}")
            raise DeviceRefusedError(text, code) from error
        if size != before:  # targetcli writes the same value when it restores
            self._journal.note(device, INFO, f"resized to {format_size(size)}")

    def set_config(self, device: KernelDevice, config: str) -> None:
        """Raises DeviceRefusedError unless it is the device's own: targetcli writes it again to restore."""
        if config != device.entry.name.config:
            text = "a new dev_config needs a new device: remove it and create it again"
            self._journal.note(device, ERROR, text)
            raise DeviceRefusedError(text, errno.EOPNOTSUPP)

    async def set_write_cache(self, device: KernelDevice, on: bool) -> None:
        """Raises DeviceRefusedError unless it is the value in force: an initiator that knows WCE=0 sends no
        SYNCHRONIZE CACHE, and would lose data if an administrator switched the cache on."""
        if on != await in_thread(device.write_cache):
            text = (
                "emulate_write_cache shows the write cache and does not switch it: have an initiator do so "
                f"(sdparm --{'set' if on else 'clear'}=WCE DISK)"
            )
            self._journal.note(device, ERROR, text)
            raise DeviceRefusedError(text, errno.EOPNOTSUPP)

    async def forget(self, device: KernelDevice) -> None:
        """The kernel has removed it without an event, as it does while netlink is blocked."""
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is device:
                await self.remove(device.entry.minor)

    # -- failures and the end -------------------------------------------------------------------------

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
                with suppress(DeviceRefusedError):
                    await self._restart(device, telling)
        await telling

    def _needs_server(self, device: KernelDevice) -> bool:
        """Whether its server has ended, and no restart or drain came since."""
        waits = self._journal.state(device) in (State.RECOVERING, State.WAITING)
        return waits and device in self._broken

    async def _wait(self, device: KernelDevice, count: int, delay: float) -> None:
        """Leaves the device blocked for `delay` seconds, unless an administrator has restarted it already."""
        if not self._needs_server(device):
            return
        text = f"failed {count} times in a row: next try in {delay:.1f} s"
        self._journal.note(device, WARNING, text, State.WAITING)
        async with self.turn(device.entry.minor):
            if self._needs_server(device):
                with suppress(OSError):  # still unblocked: initiators wait for an answer instead
                    await device.hold()
        await self._pause(delay)

    async def _tell_of(self, device: KernelDevice, error: Exception) -> None:
        """Logs why the server ended, as a task of its own: the restart does not wait for the cause."""
        if isinstance(error, WorkerDiedError):
            await error.explained()
        if self._journal.state(device) is not None:
            text = str(error) or explain(error)[1]  # a TimeoutError has no text
            self._journal.note(device, ERROR, f"{text}: initiators retry the commands under way")

    async def _restart(self, device: KernelDevice, cause: Awaitable[None] | None = None) -> None:
        """Raises DeviceRefusedError; a task retries then. cause: awaited before "served again" is logged, so
        that the cause of the failure comes first."""
        self._broken.discard(device)  # if a server ends from now on, it is the next one
        try:
            await device.restart()
        except Exception as error:
            self._tasks.spawn(self._recover(device, error))
            code, text = explain(error)
            raise DeviceRefusedError(text, code) from error
        self._backoff.served(device)
        if cause is not None:
            await cause
        self._note_service(device, "served again")

    def _note_service(self, device: KernelDevice, text: str) -> None:
        """Enters SERVING, unless the new server has ended already: then `_recover` waits for the turn."""
        self._journal.note(device, INFO, text, None if device in self._broken else State.SERVING)

    def look_after(self) -> None:
        """Call about every second: has devices with commands checked for late ones and for hangs."""
        for device in self._served.values():
            device.watch()

    async def stop(self) -> None:
        """Waits until no command is under way, and leaves the devices blocked."""

        async def stop(device: KernelDevice) -> None:
            async with self.turn(device.entry.minor):
                try:
                    if not await device.stop(DRAIN_SECONDS):
                        text = f"commands did not end within {DRAIN_SECONDS:.0f} s: initiators retry them"
                        self._journal.note(device, WARNING, text)
                except Exception as error:  # the other devices must still stop in order
                    self._journal.note(device, ERROR, f"not stopped in order: {explain(error)[1]}")
                self._journal.enter(device, State.STOPPED)

        await asyncio.gather(*(stop(device) for device in list(self._served.values())))
