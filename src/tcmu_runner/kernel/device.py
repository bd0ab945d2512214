"""One device of the kernel: its UIO node, its configfs directory and the LUN that serves it."""

from __future__ import annotations

import errno
import logging
import os
import threading
import uuid
from collections.abc import Callable

from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.configfs import Backstore, UnsupportedByKernel
from tcmu_runner.kernel.genl import Event, EventKind
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioDevice
from tcmu_runner.ring.layout import Layout
from tcmu_runner.scsi.unit import Identity, Limits

RETRYABLE = 1  # action/reset_ring: commands under way end in BUSY

Broken = Callable[["KernelDevice", Exception], None]

log = logging.getLogger(__name__)


class UioTransport:
    """The engine's view of a UIO device."""

    def __init__(self, uio: UioDevice) -> None:
        self._uio = uio
        self._map = uio.map()
        self.kick = uio.kick

    def area(self) -> memoryview:
        return memoryview(self._map)

    def fileno(self) -> int:
        return self._uio.fileno()

    def close(self) -> None:
        """Lets the kernel free the device; a view that a handler kept delays that until it is dropped."""
        try:
            self._map.close()
        except BufferError:
            log.warning(
                "a handler keeps a buffer of a finished command; the ring's memory stays until it lets go"
            )
        self._uio.close()


class KernelDevice:
    """All methods but the properties block, and run on threads of the front end, one at a time."""

    def __init__(
        self, minor: int, name: DeviceName, registry: Registry, paths: Paths, broken: Broken
    ) -> None:
        self.minor = minor
        self.name = name
        self._registry = registry
        self._broken = broken
        self._backstore = Backstore(name.hba, name.device, paths)
        self._paths = paths
        self._lun: Lun | None = None
        self._transport: UioTransport | None = None
        self._abandoned = False
        self._state = threading.Lock()

    @property
    def title(self) -> str:
        """As an administrator knows it: user_0/vol0 (file//srv/disk.img)."""
        return f"user_{self.name.hba}/{self.name.device} ({self.config})"

    @property
    def config(self) -> str:
        return self.name.config or ""

    @property
    def size(self) -> int:
        return self._lun.unit.size if self._lun else 0

    @property
    def block_size(self) -> int:
        return self._lun.unit.block_size if self._lun else 0

    def open(self) -> None:
        """Opens the storage and serves the ring. Raises TcmuError or OSError: nothing is left open then."""
        lun = Lun.open(self._describe(), self._registry)
        try:
            self._attach(lun)
        except BaseException:
            lun.close()
            raise
        with self._state:
            self._lun = lun
            abandoned = self._abandoned
        if abandoned:
            self.close()

    def _attach(self, lun: Lun) -> None:
        uio = UioDevice.open(self.minor, self._paths)
        try:
            transport = UioTransport(uio)
        except BaseException:
            uio.close()
            raise
        try:
            layout = Layout.for_machine(os.uname().machine)
            lun.attach(transport, layout, lambda error: self._broken(self, error))
        except BaseException:
            transport.close()
            raise
        self._transport = transport

    def abandon(self) -> None:
        """Nobody waits for `open` any more: what it still brings about is undone by itself."""
        with self._state:
            self._abandoned = True

    def _describe(self) -> Description:
        store = self._backstore
        return Description(
            name=f"user_{self.name.hba}/{self.name.device}",
            config=self.config,
            size=store.size(),
            block_size=store.block_size(),
            limits=Limits(max_transfer=store.max_sectors(), optimal_transfer=store.max_sectors()),
            identify=self._identify,
        )

    def _identify(self) -> Identity:
        """Read anew at each INQUIRY: LIO's tools set the serial after the device is enabled."""
        store = self._backstore
        serial = store.serial() or str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"tcmu:{self.name.hba}/{self.name.device}")
        )
        rotational = self._lun.handler.rotational if self._lun else False
        return Identity(serial=serial, company_id=store.company_id(), rotational=rotational)

    def adopt(self) -> None:
        """Takes over a device that another daemon has left: everything under way is retried by its initiator.

        A storage that cannot be opened leaves the device blocked: initiators retry, nothing fails yet.
        """
        self._registry.find(self.config)  # another daemon's device is left alone
        self._block_and_reset()
        self.open()
        self._unblock()

    def _block_and_reset(self) -> None:
        try:
            self._backstore.block()
            self._backstore.reset_ring(RETRYABLE)
        except UnsupportedByKernel as error:
            log.info("%s: %s; commands under way when the last daemon ended may fail", self.title, error)

    def _unblock(self) -> None:
        try:
            self._backstore.unblock()
        except UnsupportedByKernel:
            return  # then it was not blocked either

    def restart(self) -> None:
        """After a corrupt ring: everything under way is retried on a fresh one."""
        self._block_and_reset()
        self.close()
        self._block_and_reset()
        self.open()
        self._unblock()

    def stop(self, seconds: float) -> bool:
        """Blocks the device, lets the commands under way end, and closes. False when they did not end in
        time: then nothing is closed, since they still use the storage."""
        try:
            self._backstore.block()
        except UnsupportedByKernel as error:
            log.info("%s: %s", self.title, error)
        if self._lun is not None and not self._lun.drain(seconds):
            return False
        self.close()
        return True

    def close(self) -> None:
        """Ends serving. Does not look at the device's configfs: during its removal that would deadlock."""
        lun, transport = self._lun, self._transport
        self._lun = self._transport = None
        if lun is not None:
            lun.detach()
        if transport is not None:
            transport.close()
        if lun is not None:
            lun.close()

    def resize(self, size: int) -> None:
        """Raises TcmuError or OSError: the size is as before."""
        if self._lun is None:
            raise OSError(errno.ENODEV, f"{self.title} is not served")
        self._lun.resize(size)

    def pending_addition(self) -> Event | None:
        """The lost event of a device that the kernel is still adding, made up anew; None when it is not.

        Until it is added the kernel refuses every action with EINVAL.
        """
        try:
            self._backstore.block()
        except UnsupportedByKernel:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return Event(EventKind.ADDED, str(self.name), self.minor, self._backstore.device_id(), version=2)
        return None
