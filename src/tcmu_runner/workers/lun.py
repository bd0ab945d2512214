"""A kernel device in the process that serves it: UIO descriptor, configuration, LUN."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping

from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.engine.observe.statistics import Statistics
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.serve.transport import unmap
from tcmu_runner.engine.unit_memory import Record, UnitMemory
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioDevice
from tcmu_runner.ring.layout import Layout
from tcmu_runner.scsi.sense import INQUIRY_DATA_CHANGED
from tcmu_runner.scsi.unit import Identity, Limits
from tcmu_runner.workers import unit_services

log = logging.getLogger(__name__)


class UioTransport:
    """The ring's shared memory and doorbell, as the engine wants them. Owns `uio`."""

    def __init__(self, uio: UioDevice, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._uio = uio
        self._log = log
        self._map = uio.map()
        self.kick = uio.kick

    def area(self) -> memoryview:
        return memoryview(self._map)

    def fileno(self) -> int:
        return self._uio.fileno()

    def close(self) -> None:
        """Unmaps the memory: the kernel can free the device after that."""
        unmap(self._map, self._log)
        self._uio.close()


class KernelLun:
    """One device. Owns `uio` and the descriptors `statistics` and `state` (current and lasting, see
    StateFiles; None: no state is kept). Methods block; one call at a time."""

    def __init__(
        self,
        uio: UioDevice,
        statistics: int,
        name: DeviceName,
        registry: Registry,
        paths: Paths,
        *,
        overrides: Overrides,
        origin: Origin = Origin.NEW,
        state: tuple[int, int] | None = None,
        serial: str = "",
    ) -> None:
        """serial: the unit serial number to report while LIO has none."""
        self._uio = uio
        self._statistics = Statistics(statistics)
        os.close(statistics)  # the mapping stays
        self._name = name
        self._registry = registry
        self._paths = paths
        self._store = Backstore(name.hba, name.device, paths)
        self._overrides = overrides
        self._origin = origin
        self._serial = serial
        self._told = Limits()  # what the kernel reports
        self._memory = (
            UnitMemory(Record(state[0]), Record(state[1], lasting=True)) if state is not None else None
        )
        self._lun: Lun | None = None
        self._transport: UioTransport | None = None

    def open(self) -> Description:
        """Opens the storage; `attach` serves the ring. Raises TcmuError or OSError: everything is closed
        then."""
        try:
            description = self._describe()
            self._lun = Lun.open(description, self._registry, self._statistics)
            unit_services.unit_services(self._lun.unit, self._store, self._paths)
            self._transport = UioTransport(self._uio, self._lun.device.log)
        except BaseException:
            self.close()
            raise
        return description

    def attach(
        self,
        thread: RingThread,
        broken: Callable[[Exception], None],
        restart: Callable[[], None] | None = None,
    ) -> None:
        """Call after `open`: serves the ring. Raises TcmuError: everything is closed then. broken, restart:
        see Lun.attach."""
        if self._lun is None or self._transport is None:
            raise DeviceError(f"{self._store.name} is closed already")
        try:
            layout = Layout.for_machine(os.uname().machine)
            self._lun.attach(
                self._transport, layout, broken, restart=restart, thread=thread, memory=self._memory
            )
        except BaseException:
            self.close()
            raise

    def _describe(self) -> Description:
        store, block_size = self._store, self._store.block_size()
        return Description(
            name=store.name,
            config=self._name.config,
            size=store.size(),
            block_size=block_size,
            limits=self._limits(block_size),
            identify=self._identify,
            origin=self._origin,
        )

    def _limits(self, block_size: int) -> Limits:
        """hw_max_sectors is reported, not enforced: initiators that never read VPD B0h would fail."""
        longest = self._store.data_area() // block_size
        self._told = Limits(max_transfer=longest, optimal_transfer=self._store.max_sectors())
        return self._overrides.limit(self._told)

    def _identify(self) -> Identity:
        """Called for each INQUIRY, since LIO's tools set the serial after `enable`."""
        serial = self._store.serial() or self._serial
        rotational = self._lun.stack.handler.rotational if self._lun else False
        return self._overrides.identify(
            Identity(serial=serial, company_id=self._store.company_id(), rotational=rotational)
        )

    def watch(self) -> None:
        """Checks for late commands. Call about once a second."""
        if (lun := self._lun) is not None:
            lun.watch()

    def drain(self, seconds: float) -> bool:
        """Waits until no command is under way; False when some are left after `seconds`."""
        return self._lun is None or self._lun.drain(seconds)

    def close(self) -> None:
        """Ends serving. Does not read the device's configfs: during its removal that would deadlock."""
        lun, transport = self._lun, self._transport
        self._lun = self._transport = None
        if lun is not None:
            lun.detach()
        if transport is not None:
            transport.close()
        self._uio.close()
        if lun is not None:
            lun.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def control(self, layer: str, table: Mapping[str, object]) -> Mapping[str, object]:
        """See Stack.control."""
        if self._lun is None:
            raise DeviceError(f"{self._store.name} is not served at the moment: try again", errno.EAGAIN)
        return self._lun.stack.control(layer, table)

    def adjust(self, overrides: Overrides) -> None:
        """Applies new overrides at once; initiators get INQUIRY DATA HAS CHANGED and ask again.
        Does not read configfs, for the reason given at `close`."""
        self._overrides = overrides
        if self._lun is not None:
            self._lun.unit.limits = overrides.limit(self._told)
            self._lun.unit.queue_unit_attention(INQUIRY_DATA_CHANGED)

    def resize(self, size: int) -> None:
        """Raises TcmuError or OSError: the size has not changed."""
        if self._lun is not None:
            self._lun.resize(size)
