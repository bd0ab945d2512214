"""`rbd/pool/image`: a disk in a Ceph cluster."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import AsyncHandler, Device, Extent
from tcmu_runner.handler.config import Number, parse_options
from tcmu_runner.handlers.rbd_image import RbdImage, RbdPlace
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.sense import IN_STANDBY, ScsiError, ScsiStatusError, Status
from tcmu_runner.scsi.unit import Capabilities

CONNECT_SECONDS = 8  # less than OPEN_SECONDS of an administrator's `enable`
RETRY_SECONDS = 1.0
FENCED = errno.ESHUTDOWN  # Ceph's EBLOCKLISTED: another client took us for dead and broke our lock

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RbdOptions:
    """path: POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]. osd_op_timeout: seconds; 0: no limit."""

    path: str
    osd_op_timeout: Number = 0
    conf: str = ""
    id: str = ""
    exclusive: bool = False
    read_only: bool = False

    @property
    def write_protected(self) -> bool:
        return self.read_only or "@" in self.path

    @property
    def place(self) -> RbdPlace:
        path, _, snapshot = self.path.partition("@")
        pool, *namespace, image = path.removeprefix("/").split("/")
        settings = {
            "client_mount_timeout": str(CONNECT_SECONDS),
            "rados_osd_op_timeout": str(self.osd_op_timeout),
            "rbd_cache": "false",  # writes answered from a cache would be lost when the cluster times out
            "rbd_skip_partial_discard": "false",  # unmapped blocks read as zeroes, also parts of objects
        }
        return RbdPlace(pool, "".join(namespace), image, snapshot, self.conf, self.id, settings)


class RbdHandler(AsyncHandler[RbdOptions]):
    """rbd/POOL/[NAMESPACE/]IMAGE[@SNAPSHOT][;osd_op_timeout=SECONDS][;conf=PATH][;id=USER][;exclusive][;read_only]

    A disk in an image of a Ceph cluster; the image is at least as large as the disk. While the cluster cannot
    be reached, commands wait (LIO fails them after cmd_time_out, by default 30 s: set it to 0).

      osd_op_timeout  seconds after which a command without the cluster's answer ends in BUSY, so that
                      initiators try again
      conf            Ceph's configuration file, instead of /etc/ceph/ceph.conf
      id              the user, without client.; admin by default
      exclusive       take the image's exclusive lock and keep it: no other client can write. A dead host that
                      has the lock is fenced; while a living one has it, this one is in standby
      read_only       a write-protected disk; a snapshot is always write-protected

    Needs Ceph's client library (Debian: librbd1). The cluster shows each disk in `ceph service status`.

    Examples: rbd/rbd/disk1  rbd/vms/disk2;id=tcmu;osd_op_timeout=30
    """

    subtype = "rbd"
    privileges = frozenset({"DAC_READ_SEARCH"})  # the keyring belongs to the user ceph

    def __init__(self, device: Device, options: RbdOptions, image: RbdImage) -> None:
        self._device = device
        self._options = options
        self._image: RbdImage | None = image
        self._size = image.size()
        self._loop = asyncio.get_running_loop()
        self._unreachable = False
        self._comeback: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()  # held while a thread asks the cluster for the image's size
        self._asked: asyncio.Task[None] | None = None
        self._counts = {"lock_lost_cnt": 0, "conn_lost_cnt": 0, "cmd_timed_out_cnt": 0}
        self._attach(image)

    @classmethod
    def parse(cls, config: str) -> RbdOptions:
        options = parse_options(RbdOptions, config)
        parts = options.path.partition("@")[0].removeprefix("/").split("/")  # C accepts rbd//POOL/IMAGE
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise ConfigError(
                f"{options.path!r} names no image: write rbd/POOL/IMAGE, for example rbd/rbd/disk1"
            )
        if options.conf and not options.conf.startswith("/"):
            raise ConfigError(f"conf={options.conf} is not absolute: write conf=/etc/ceph/ceph.conf")
        return options

    @classmethod
    def probe(cls, config: RbdOptions) -> int:
        with closing(RbdImage(config.place, read_only=True)) as image:
            return image.size()

    @classmethod
    async def open(cls, device: Device, config: RbdOptions) -> RbdHandler:
        image = await asyncio.to_thread(_open, config)
        if image.size() < device.size:
            size = image.size()
            await asyncio.to_thread(image.close)
            raise ConfigError(
                f"{config.place} has {size} bytes, the disk {device.size}: make the disk smaller, or "
                f"rbd resize --size {device.size}B {config.place}"
            )
        return cls(device, config, image)

    def identity(self) -> str:
        """By the image's id: an image that is deleted and made anew gets another; a renamed one keeps it."""
        place = self._options.place
        where = "/".join(filter(None, (place.pool, place.namespace)))
        snapshot = f", snapshot {place.snapshot}" if place.snapshot else ""
        return f"RBD image {self._here().id()} in {where}{snapshot}"

    def capabilities(self) -> Capabilities:
        if self._options.write_protected:
            return Capabilities(extents=True)
        return super().capabilities()

    async def close(self) -> None:
        if self._comeback is not None:
            self._comeback.cancel()
        image, self._image = self._image, None
        if image is not None:
            await self._let_go(image)
        if self._asked is not None:
            self._asked.cancel()

    # -- commands -------------------------------------------------------------------------------------

    async def read(self, into: Buffers, offset: int) -> None:
        await self._do(lambda image: image.read(into, offset))

    async def write(self, data: Buffers, offset: int) -> None:
        await self._do(lambda image: image.write(data, offset))

    async def flush(self) -> None:
        await self._do(lambda image: image.flush())

    async def unmap(self, offset: int, length: int) -> None:
        await self._do(lambda image: image.discard(offset, length))

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        await self._do(lambda image: image.write_zeroes(offset, length, unmap=unmap))

    async def write_same(self, offset: int, length: int, block: bytes) -> None:
        await self._do(lambda image: image.write_same(offset, length, block))

    async def extents(self, offset: int, length: int) -> Iterable[Extent]:
        block = self._device.block_size
        return await self._do(lambda image: asyncio.to_thread(image.extents, offset, length, block))

    async def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        """librbd does it within one stripe unit. Across two, we read, compare and write: the engine runs no
        other command of this disk on these blocks meanwhile."""
        old, new = iov.gather(expected), iov.gather(data)
        unit = self._here().stripe_unit
        if offset // unit == (offset + len(new) - 1) // unit:
            return await self._do(lambda image: asyncio.to_thread(image.compare_and_write, old, new, offset))
        there = iov.allocate(len(old))
        await self.read(there, offset)
        different = iov.first_difference(iov.gather(there), old)
        if different is None:
            await self.write(data, offset)
        return different

    async def resize(self, size: int) -> None:
        """An image that is too small grows; a larger one is not cut."""
        image = self._here()
        if await asyncio.to_thread(image.size) < size:
            self._size = size  # so that `_look_at_size` does not report our own resize
            await self._do(lambda image: asyncio.to_thread(image.resize, size))

    async def _do(self, operation: Callable[[RbdImage], Awaitable[Result]]) -> Result:
        try:
            result = await operation(self._here())
        except OSError as error:
            if self._unreachable and error.errno == errno.EINVAL:
                # librbd could not read the image's header again; the range itself is within the image.
                raise OSError(errno.ETIMEDOUT, f"{error} while the cluster does not answer") from error
            self._failed(error)
            raise
        self._unreachable = False
        return result

    # -- the cluster and other hosts ------------------------------------------------------------------

    def _here(self) -> RbdImage:
        if self._image is not None:
            return self._image
        if self._options.exclusive:
            raise ScsiError(IN_STANDBY)
        raise ScsiStatusError(Status.BUSY)

    def _attach(self, image: RbdImage) -> None:
        self._image = image
        image.listen(self._loop)
        image.watch(self._changed)
        self._report(image)

    def _report(self, image: RbdImage) -> None:
        place, host = self._options.place, socket.gethostname()
        metadata = {"pool_name": place.pool, "image_name": place.image, "image_id": image.id()}
        metadata |= {"daemon_type": "portal", "daemon_prefix": host}
        try:
            image.cluster.register(f"{host}:{place}", metadata)
            self._tell_status()
        except OSError as error:
            self._device.log.info("%s; the disk works without", error)

    def _tell_status(self) -> None:
        if self._image is not None:
            status = {name: str(count) for name, count in self._counts.items()}
            status["lock_owner"] = str(self._options.exclusive).lower()
            self._image.cluster.tell_status(status)

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.ETIMEDOUT:
            self._counts["cmd_timed_out_cnt"] += 1
            if not self._unreachable:
                self._unreachable = True
                self._counts["conn_lost_cnt"] += 1
                self._device.lost_connection()
        elif error.errno == FENCED and self._image is not None:
            self._counts["lock_lost_cnt"] += 1
            self._device.lost_lock()
            image, self._image = self._image, None
            self._comeback = self._loop.create_task(self._come_back(image))

    async def _come_back(self, fenced: RbdImage) -> None:
        """A fenced client stays fenced: opens the image with a new one, and retries until it can."""
        await self._let_go(fenced)
        while True:
            try:
                image = await asyncio.to_thread(_open, self._options)
                break
            except OSError as error:
                self._device.log.info("%s; next try in %g s", error, RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
        self._attach(image)
        self._device.log.warning("%s is open again", self._options.place)

    async def _let_go(self, image: RbdImage) -> None:
        await image.drained()
        async with self._asking:
            pass  # `_look_at_size` uses only `_image`, which is another by now
        image.deafen(self._loop)
        await asyncio.to_thread(image.close)

    def _changed(self) -> None:
        """Called by librbd on its own thread."""
        self._loop.call_soon_threadsafe(self._ask_for_size)

    def _ask_for_size(self) -> None:
        if self._asked is None or self._asked.done():
            self._asked = self._loop.create_task(self._look_at_size())

    async def _look_at_size(self) -> None:
        """Asks the cluster for the size on another thread, and retries while it does not answer."""
        while True:
            async with self._asking:
                if (image := self._image) is None:
                    return
                try:
                    size = await asyncio.to_thread(image.size)
                except OSError as error:
                    self._device.log.info("%s; next try in %g s", error, RETRY_SECONDS)
                else:
                    break
            await asyncio.sleep(RETRY_SECONDS)
        if size != self._size:
            self._size = size
            self._device.resized(size // self._device.block_size * self._device.block_size)


def _open(options: RbdOptions) -> RbdImage:
    """Opens the image and takes the lock if it is wanted. Blocks."""
    image = RbdImage(options.place, read_only=options.write_protected)
    try:
        if not options.write_protected:
            image.free_lock()
            if options.exclusive:
                image.lock()
    except OSError:
        image.close()
        raise
    return image
