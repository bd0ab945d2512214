"""All devices that are served, and what is done to each of them, one thing at a time."""

from __future__ import annotations

import asyncio
import errno
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from logging import ERROR, INFO, WARNING

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.threads import in_thread
from tcmu_runner.engine.transport import TransportGoneError
from tcmu_runner.engine.view import DeviceView, Happening, State
from tcmu_runner.errors import DeviceError, TcmuError
from tcmu_runner.handler.registry import Offer, Registry
from tcmu_runner.kernel.alarm import Alarm
from tcmu_runner.kernel.chronicle import Chronicle, Record
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.device import KernelDevice
from tcmu_runner.kernel.guardian import Guardian
from tcmu_runner.kernel.messages import Table
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.reasons import reason
from tcmu_runner.kernel.recovery import Recovery
from tcmu_runner.kernel.servers import MakeServer, Server
from tcmu_runner.kernel.slots import Slots
from tcmu_runner.kernel.tasks import Tasks
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.kernel.workers import WorkerDiedError
from tcmu_runner.units import format_size

DRAIN_SECONDS = 25.0  # below the 30 s after which the kernel fails a command
LONGEST_DRAIN = 60.0  # a removal waits for it, and the kernel complains of who waits for two minutes


class RefusedError(DeviceError):
    """The device's record, and so the log, has it already."""


class Fleet:
    """On the event loop. What takes an entry or a device of the kernel's is for the front end, which holds
    the minor's `turn` meanwhile; the rest is engine.view.Controllable, for everybody."""

    def __init__(
        self, registry: Registry, paths: Paths, guardian: Guardian, alarm: Alarm, make_server: MakeServer
    ) -> None:
        self._registry = registry
        self._paths = paths
        self._guardian = guardian
        self._alarm = alarm
        self._make_server = make_server
        self._served: dict[int, KernelDevice] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._chronicle = Chronicle()
        self._recovery = Recovery()
        self._slots = Slots()
        self._tasks = Tasks()

    # -- what anybody may see -------------------------------------------------------------------------

    def devices(self) -> list[DeviceView]:
        return [record.view() for record in self._chronicle]

    def happenings(self) -> list[Happening]:
        return self._chronicle.happenings()

    def handlers(self) -> list[Offer]:
        return list(self._registry)

    def watch(self, changed: Callable[[str], None]) -> None:
        self._chronicle.watch(changed)

    # -- what an administrator may ask for ------------------------------------------------------------

    async def drain(self, name: str, seconds: float) -> bool:
        device = self._find(name).device
        if not 0 <= seconds <= LONGEST_DRAIN:
            raise DeviceError(
                f"{name}: cannot wait {seconds:g} s: give 0 to {LONGEST_DRAIN:g} s", errno.EINVAL
            )
        async with self.turn(device.entry.minor):
            if (state := self._chronicle.state(device)) is not State.SERVING:
                raise DeviceError(
                    f"{name} is {state.value if state else 'gone'}: only one that is served can be drained"
                )
            drained = await device.drain(seconds)
            if drained:
                self._chronicle.note(device, INFO, "drained: blocked until its restart", State.STOPPED)
            else:
                self._chronicle.note(device, WARNING, f"not drained: commands are older than {seconds:g} s")
            return drained

    async def restart(self, name: str) -> None:
        device = self._find(name).device
        async with self.turn(device.entry.minor):
            if self.at(device.entry.minor) is device:
                self._chronicle.note(device, INFO, "restarted on request", State.RECOVERING)
                await self._restart(device)
            elif self._chronicle.state(device) is State.FAILED:
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
                code, text = reason(error)
                raise DeviceError(f"{name}: {text}", code) from error
            if table:
                self._chronicle.note(device, INFO, f"{layer} is changed: {table}")
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
                text = f"the new settings of {name} take effect at its restart: {reason(error)[1]}"
                self._chronicle.note(device, WARNING, text)
            else:
                self._chronicle.note(device, INFO, "identity and limits as the settings now say")

    def _find(self, name: str) -> Record:
        for record in self._chronicle:
            if record.device.name == name:
                return record
        known = ", ".join(record.device.name for record in self._chronicle) or "none"
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

        def make_server(device: KernelDevice, urgent: bool) -> Server:
            def trouble(error: Exception) -> None:
                self._tasks.spawn(self._recover(device, error))

            return self._make_server(entry, trouble, urgent)

        return KernelDevice(entry, self._paths, self._slots, self._alarm, make_server)

    async def add(self, entry: UioEntry) -> None:
        """Raises RefusedError."""
        device = self.device(entry)
        self._chronicle.open(device)
        try:
            await device.open()
        except Exception as error:
            code, text = reason(error)
            self._chronicle.note(device, ERROR, f"refused: {text}")
            self._chronicle.close(entry.minor)
            raise RefusedError(text, code) from error
        self._keep(device, "added")

    async def adopt(self, entry: UioEntry) -> None:
        """One that existed before this daemon, or came unseen. A failure is told, and leaves it FAILED."""
        async with self.turn(entry.minor):
            with suppress(RefusedError):
                await self._take_over(self.device(entry))

    async def _take_over(self, device: KernelDevice) -> None:
        self._chronicle.open(device)
        try:
            self._registry.check(device.entry.name.config)  # another daemon's device is left alone
            await device.adopt()
        except Exception as error:
            code, text = reason(error)
            self._chronicle.note(device, ERROR, f"cannot be taken over: {text}", State.FAILED)
            raise RefusedError(text, code) from error
        self._keep(device, "taken over")

    def _keep(self, device: KernelDevice, how: str) -> None:
        self._served[device.entry.minor] = device
        self._guardian.serving(device.entry.name.hba, device.entry.name.device)
        geometry = f"{format_size(device.size)} in blocks of {device.block_size} bytes"
        self._chronicle.note(device, INFO, f"{how}, {geometry}", State.SERVING)

    async def remove(self, minor: int) -> None:
        """It is gone; its storage is closed when this returns."""
        device = self._served.pop(minor, None)
        if device is not None:
            self._recovery.forget(device)
            self._guardian.dropped(device.entry.name.hba, device.entry.name.device)
            await device.close()
            self._chronicle.note(device, INFO, "removed")
        self._chronicle.close(minor)

    async def set_size(self, device: KernelDevice, size: int) -> None:
        """Raises RefusedError: it has the size it had."""
        try:
            await device.resize(size)
        except Exception as error:
            code, text = reason(error)
            self._chronicle.note(device, ERROR, f"cannot be resized to {size} bytes: {text}")
            raise RefusedError(text, code) from error
        self._chronicle.note(device, INFO, f"resized to {format_size(size)}")

    def set_config(self, device: KernelDevice, config: str) -> None:
        """Raises RefusedError unless it is what the device has: tools write it again when they restore."""
        if config != device.entry.name.config:
            text = "a new dev_config needs a new device: remove it and create it again"
            self._chronicle.note(device, ERROR, text)
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
        if self._chronicle.state(device) in (None, State.STOPPED):
            return
        self._chronicle.enter(device, State.RECOVERING)
        telling = asyncio.ensure_future(self._tell_of(device, error))
        count, delay = self._recovery.trouble(device)
        if delay:
            await telling
            text = f"in trouble {count} times in a row, next try in {delay:.1f} s"
            self._chronicle.note(device, WARNING, text, State.WAITING)
            await self._hold(device)
            await asyncio.sleep(delay)
        async with self.turn(device.entry.minor):
            if self._chronicle.state(device) in (State.RECOVERING, State.WAITING):
                self._chronicle.enter(device, State.RECOVERING)
                with suppress(RefusedError):
                    await self._restart(device, telling)
        await telling

    async def _hold(self, device: KernelDevice) -> None:
        async with self.turn(device.entry.minor):
            if self._chronicle.state(device) is State.WAITING:
                with suppress(OSError):  # they wait for an answer then
                    await device.hold()

    async def _tell_of(self, device: KernelDevice, error: Exception) -> None:
        """Initiators do not wait for the log to know the cause."""
        if isinstance(error, WorkerDiedError):
            await error.explained()
        if self._chronicle.state(device) is not None:
            self._chronicle.note(device, ERROR, f"{error}; everything under way is retried")

    async def _restart(self, device: KernelDevice, told: Awaitable[None] | None = None) -> None:
        """Raises RefusedError: it is tried again then. told: what is to be in the log before."""
        try:
            await device.restart()
        except Exception as error:
            self._tasks.spawn(self._recover(device, error))
            code, text = reason(error)
            raise RefusedError(text, code) from error
        self._recovery.served(device)
        if told is not None:
            await told
        self._chronicle.note(device, INFO, "served again", State.SERVING)

    def look_after(self) -> bool:
        """To be called about every second. False: nothing happens on any ring, and `alarm` tells when that
        changes."""
        return sum(device.watch() for device in self._served.values()) > 0  # each is asked

    async def stop(self) -> None:
        """Lets all commands under way end, and leaves the devices blocked."""

        async def stop(device: KernelDevice) -> None:
            async with self.turn(device.entry.minor):
                try:
                    if not await device.stop(DRAIN_SECONDS):
                        text = f"its commands did not end in {DRAIN_SECONDS:.0f} s, and are retried"
                        self._chronicle.note(device, WARNING, text)
                except Exception as error:  # the others have to stop in order
                    self._chronicle.note(device, ERROR, f"not stopped in order: {reason(error)[1]}")
                self._chronicle.enter(device, State.STOPPED)

        await asyncio.gather(*(stop(device) for device in list(self._served.values())))
