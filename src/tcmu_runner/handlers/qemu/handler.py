"""`qcow//path` and `qemu//path;format=...`: disks in image files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handler.config import parse_options
from tcmu_runner.handler.file_facts import identity_of
from tcmu_runner.handlers.nbd.handler import ExportHandler
from tcmu_runner.handlers.nbd.wire import NbdExport
from tcmu_runner.handlers.qemu.daemon import Daemon
from tcmu_runner.handlers.qemu.image import FORMATS, MAGIC, Image, guess
from tcmu_runner.iov import Buffers

HOLD = 20.0  # seconds; see NbdOptions.hold
KEEP = 64 << 20  # bytes; see NbdOptions.keep
_CHOICES = {
    "format": FORMATS,
    "aio": ("threads", "native", "io_uring"),
    "detect_zeroes": ("off", "on", "unmap"),
}


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """See QemuHandler."""

    path: str
    format: str | None = None
    read_only: bool = False
    direct: bool = False
    aio: str = "threads"
    detect_zeroes: str = "off"
    shared: bool = False


class ImageHandler(ExportHandler[ImageOptions]):
    """A disk in an image that a qemu-storage-daemon serves to us; it lives as long as this object."""

    formats: ClassVar[Sequence[str]] = FORMATS

    def __init__(self, device: Device, image: Image) -> None:
        super().__init__(device, image.path)
        self.daemon = Daemon(image, device)
        self._wanted = 0  # bytes that `connect` has the image grow to

    @classmethod
    def parse(cls, config: str) -> ImageOptions:
        options = parse_options(ImageOptions, config)
        if not options.path.startswith("/") or options.path.endswith("/"):
            raise ConfigError(
                f"path {options.path!r} names no file: write {cls.subtype}//srv/disk.qcow2, with two slashes"
            )
        for name, choices in {**_CHOICES, "format": cls.formats}.items():
            value = getattr(options, name)
            if value is not None and value not in choices:
                raise ConfigError(f"option {name}={value}: there are {', '.join(choices)}")
        if options.aio == "native" and not options.direct:
            raise ConfigError("option aio=native does not work with the page cache: add ;direct")
        return options

    @classmethod
    def probe(cls, config: ImageOptions) -> int:
        daemon = cls(Device(config.path, 0), replace(_image(config), read_only=True)).daemon
        try:
            connected, export = daemon.connect(0)
            connected.close()
        finally:
            daemon.close()
        return export.size

    @classmethod
    async def open(cls, device: Device, config: ImageOptions) -> Self:
        handler = cls(device, await asyncio.to_thread(_image, config))
        try:
            await handler.begin(hold=HOLD, keep=KEEP)
        except BaseException:
            await asyncio.to_thread(handler.daemon.close)
            raise
        return handler

    def identity(self) -> str:
        """That of the image file; backing files do not count."""
        descriptor = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return identity_of(descriptor, self.name)
        finally:
            os.close(descriptor)

    async def connect(self) -> Sequence[tuple[socket, NbdExport]]:
        return [await asyncio.to_thread(self.daemon.connect, self._wanted)]

    async def resize(self, size: int) -> None:
        """An image that is too small grows; a larger one is not cut."""
        self._wanted, self.daemon.refusal = size, ""
        try:
            await super().resize(size)
        except OSError as error:
            if self.daemon.refusal:
                raise OSError(errno.EINVAL, f"{self.name} cannot grow: {self.daemon.refusal}") from None
            raise error from None
        finally:
            self._wanted = 0

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self.daemon.close)


def _image(config: ImageOptions) -> Image:
    """Raises OSError if the file is missing or neither file nor block device."""
    try:
        found = config.format or guess(config.path)
        mode = Path(config.path).stat().st_mode
    except OSError as error:
        raise OSError(
            error.errno,
            f"{config.path}: {error.strerror}: correct the path, or make an image with "
            f"qemu-img create -f {config.format or 'qcow2'} {config.path} SIZE",
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(errno.EINVAL, f"{config.path} is neither a file nor a block device: correct the path")
    return Image(
        config.path, found, config.read_only, config.direct, config.aio, config.detect_zeroes, config.shared
    )


class QemuHandler(ImageHandler):
    """qemu//ABSOLUTE/PATH;format=FORMAT[;OPTION...]

    A disk in an image file of a format that QEMU knows: qcow2, qcow, qed, vdi, vhdx, vmdk, vpc, parallels,
    raw, and to be read only bochs, cloop and dmg. Backing files, internal snapshots, compressed clusters and
    external data files are QEMU's own: a qemu-storage-daemon serves the image to us and ends with us. It is
    in Debian's package qemu-system-common.

      format         the image's format; it is never guessed from the content
      read_only      a write-protected disk
      direct         bypass the page cache (O_DIRECT)
      aio            how QEMU waits for the file: threads (default), io_uring, or native, which needs direct
      detect_zeroes  written zeroes take no space: off (default), on, or unmap, which gives space back, too
      shared         do not lock the image: for a raw one that several LUNs have, each with this option; their
                     initiators coordinate their writes. Any other format would be damaged

    The image has to exist (qemu-img create) and may be larger than the disk; it grows when the LUN does. An
    image with a backing file has to record its format (qemu-img rebase -u -F). Serve only images that you
    have made or looked at (qemu-img info): they may name other files of this host.

    Examples: qemu//srv/disk.vmdk;format=vmdk  qemu//srv/disk.qcow2;format=qcow2;direct;aio=native
    """

    subtype = "qemu"

    @classmethod
    def parse(cls, config: str) -> ImageOptions:
        options = super().parse(config)
        if options.format is None:
            raise ConfigError(f"option 'format' is missing: add ;format=qcow2, or {', '.join(FORMATS)}")
        return options


class QcowHandler(ImageHandler):
    """qcow//ABSOLUTE/PATH[;format=qcow2|qcow|raw][;OPTION...]

    As in the C daemon: a disk in a qcow2 or qcow image, or in a raw file. The other options are those of
    qemu//, which serves the image.

    Without `format` a file that begins as a qcow2 or qcow image is one, any other file is raw. Such a raw
    disk refuses writes that would make it look like an image the next time: by such a header a guest could
    read other files of this host. Add ;format=raw to allow them.

    Examples: qcow//srv/disk.qcow2  qcow//srv/disk.img;format=raw
    """

    subtype = "qcow"
    formats = ("qcow2", "qcow", "raw")
    _guarded = False

    @classmethod
    async def open(cls, device: Device, config: ImageOptions) -> Self:
        handler = await super().open(device, config)
        handler._guarded = config.format is None and handler.daemon.image.format == "raw"
        return handler

    async def _write(self, data: Buffers, offset: int, flags: int) -> None:
        if self._guarded and offset < len(MAGIC) and iov.gather(iov.cut(data, 0, len(MAGIC))) == MAGIC:
            raise OSError(
                errno.EPERM,
                f"{self.name} would be taken for a qcow image from now on: to allow that add ;format=raw",
            )
        await super()._write(data, offset, flags)
