"""`nbd/...`: a disk that an NBD server exports."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from socket import socket
from typing import TypeVar

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import AsyncHandler, Device, Extent
from tcmu_runner.handler.config import Number, parse_options, unescape_address
from tcmu_runner.handlers.nbd.dial import Address, Place, dial
from tcmu_runner.handlers.nbd.link import Link
from tcmu_runner.handlers.nbd.wire import DF_LIMIT, HOLE, PORT, ZERO, ExportFlag, Kind, NbdExport, RequestFlag
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.units import format_size

Options = TypeVar("Options")
Transfer = Callable[[Buffers, int], Awaitable[None]]

LARGEST = 32 << 20  # bytes of one READ or WRITE
LONGEST = 1 << 30  # bytes of one TRIM, WRITE_ZEROES or BLOCK_STATUS
MOST_CONNECTIONS = 16
HOLE_OF_ZEROES = HOLE | ZERO


@dataclass(frozen=True, slots=True)
class NbdOptions:
    """See NbdHandler. keep: bytes. hold: seconds."""

    address: str
    export: str = ""
    tls: str | None = None
    tls_hostname: str | None = None
    connections: Number = 1
    hold: Number = 20
    keep: int = 64 << 20

    @property
    def place(self) -> Place:
        """Raises ConfigError."""
        kind, _, rest = self.address.partition("/")
        if kind == "unix" and rest:
            address = Address(f"/{rest}")
        elif kind == "tcp" and rest:
            address = _server(unescape_address(rest))
        else:
            raise ConfigError(
                f"{self.address!r} is no address: write nbd/unix/run/disk.sock or nbd/tcp/HOST/PORT"
            )
        return Place(address, self.export, self.tls, self.tls_hostname)


def _server(text: str) -> Address:
    """HOST[/PORT], ADDRESS6[/PORT], [ADDRESS6][/PORT] or [ADDRESS6]:PORT."""
    host, _, port = text.partition("/")
    if host.startswith("["):
        host, _, behind = host[1:].partition("]")
        port = behind.removeprefix(":") or port
    return Address(host=host, port=_port(port))


def _port(text: str) -> int:
    if not text:
        return PORT
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise ConfigError(f"{text!r} is no port: write nbd/tcp/HOST/PORT, and the export as ;export=NAME")
    return int(text)


class ExportHandler(AsyncHandler[Options]):
    """The common part of handlers that use an NBD server. name: of the export, for messages."""

    privileges = frozenset({"DAC_OVERRIDE"})  # images and sockets may belong to any user

    def __init__(self, device: Device, name: str) -> None:
        self.device = device
        self.name = name
        self.size = device.size
        self.link: Link

    async def begin(self, *, hold: float, keep: int) -> None:
        """Connects to the server. Raises OSError."""
        self.link = Link(self.connect, self.check, self.device, hold=hold, keep=keep)
        await self.link.open()

    async def connect(self) -> Sequence[tuple[socket, NbdExport]]:
        """Connections that are ready for requests. Called again when they are lost. Raises OSError."""
        raise NotImplementedError

    def check(self, export: NbdExport) -> None:
        """Raises OSError if the export does not suit this LUN."""
        if export.size < self.size:
            raise OSError(
                errno.EINVAL,
                f"{self.name} has {export.size} bytes ({format_size(export.size)}), not {self.size}: "
                f"set dev_size to {export.size // self.device.block_size * self.device.block_size} or less",
            )
        if export.minimum > self.device.block_size:
            raise OSError(
                errno.EINVAL,
                f"{self.name} takes no blocks of less than {export.minimum} bytes: "
                f"set hw_block_size={export.minimum}",
            )
        if export.maximum < self.device.block_size:
            raise OSError(
                errno.EINVAL,
                f"{self.name} takes requests of at most {export.maximum} bytes: correct the server",
            )

    def capabilities(self) -> Capabilities:
        """From the export's transmission flags."""
        flags, extents = self.link.export.flags, self.link.export.context is not None
        if ExportFlag.READ_ONLY in flags:
            return Capabilities(extents=extents)
        zeroes = ExportFlag.SEND_WRITE_ZEROES in flags
        trim = ExportFlag.SEND_TRIM in flags
        return Capabilities(
            write=True,
            flush=ExportFlag.SEND_FLUSH in flags,
            unmap=trim,
            unmap_reads_zero=trim and zeroes,
            write_zeroes=zeroes,
            extents=extents,
        )

    async def close(self) -> None:
        await self.link.close()

    async def read(self, into: Buffers, offset: int) -> None:
        length = iov.length(into)
        if length > self._largest:
            await self._in_parts(self.read, into, offset, length)
            return
        export = self.link.export
        whole = export.structured and length <= DF_LIMIT and ExportFlag.SEND_DF in export.flags
        await self.link.send(Kind.READ, offset, length, RequestFlag.DF if whole else 0, into).done

    async def write(self, data: Buffers, offset: int) -> None:
        await self._write(data, offset, 0)

    async def write_durable(self, data: Buffers, offset: int) -> None:
        if ExportFlag.SEND_FUA in self.link.export.flags:
            await self._write(data, offset, RequestFlag.FUA)
        else:
            await super().write_durable(data, offset)

    async def _write(self, data: Buffers, offset: int, flags: int) -> None:
        length = iov.length(data)
        if length > self._largest:
            await self._in_parts(lambda part, at: self._write(part, at, flags), data, offset, length)
        else:
            await self.link.change(Kind.WRITE, offset, length, flags, data)

    @property
    def _largest(self) -> int:
        """The longest READ or WRITE in bytes, in whole blocks."""
        return min(self.link.export.maximum, LARGEST) // self.device.block_size * self.device.block_size

    async def _in_parts(self, transfer: Transfer, buffers: Buffers, offset: int, length: int) -> None:
        step = self._largest
        for at in range(0, length, step):
            await transfer(iov.cut(buffers, at, step), offset + at)

    async def flush(self) -> None:
        await self.link.flush()

    async def unmap(self, offset: int, length: int) -> None:
        """Prefers WRITE_ZEROES: servers free space for it as well, while TRIM is only a hint."""
        zeroes = ExportFlag.SEND_WRITE_ZEROES in self.link.export.flags
        await self._on_range(Kind.WRITE_ZEROES if zeroes else Kind.TRIM, offset, length, 0)

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        await self._on_range(Kind.WRITE_ZEROES, offset, length, 0 if unmap else RequestFlag.NO_HOLE)

    async def _on_range(self, kind: Kind, offset: int, length: int, flags: int) -> None:
        for at in range(offset, offset + length, LONGEST):
            await self.link.change(kind, at, min(LONGEST, offset + length - at), flags, [])

    async def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """In whole blocks; a block that is partly data counts as data."""
        found: list[Extent] = []
        end, block = offset + length, self.device.block_size
        at = hole = offset  # at: states are known up to here. hole: start of the hole that ends at `at`
        while at < end:
            for size, state in await self.link.status(at, min(end - at, LONGEST)):
                at, before = min(at + size, end), at
                if state & HOLE_OF_ZEROES != HOLE_OF_ZEROES:
                    _extend(found, -(-hole // block) * block, before // block * block, mapped=False)
                    _extend(found, before // block * block, min(-(-at // block) * block, end), mapped=True)
                    hole = at
        _extend(found, -(-hole // block) * block, end, mapped=False)
        return found

    async def resize(self, size: int) -> None:
        """Raises OSError unless the server's export is large enough by now."""
        if size > self.link.export.size:
            await self.link.renew()
        if size > self.link.export.size:
            raise OSError(
                errno.EINVAL,
                f"{self.name} has {self.link.export.size} bytes, not {size}: enlarge it at the server first",
            )
        self.size = size


def _extend(found: list[Extent], start: int, end: int, *, mapped: bool) -> None:
    """Appends an extent up to `end`; merges it with the last one if both are of one kind."""
    if found:
        start = found[-1].offset + found[-1].length
    if start >= end:
        return
    if found and found[-1].mapped == mapped:
        start = found.pop().offset
    found.append(Extent(start, end - start, mapped))


class NbdHandler(ExportHandler[NbdOptions]):
    """nbd/unix/PATH[;OPTION...]  or  nbd/tcp/HOST[/PORT][;OPTION...]

    A disk that an NBD server exports: qemu-nbd, qemu-storage-daemon, nbdkit, nbd-server and others. PATH is
    that of a unix socket without its first slash; HOST may be an IPv6 address, with or without brackets, with
    %3A for each colon where targetcli is to take it; the port is 10809 by default.

      export        the export's name; without it the server's default export
      tls           directory with ca-cert.pem, and client-cert.pem and client-key.pem if the server wants a
                    client certificate; the connection is encrypted then, or there is none
      tls_hostname  the name in the server's certificate, where that is not HOST
      connections   how many, if the server allows several (1)
      hold          seconds that commands wait for a lost connection before they end in BUSY, so that
                    initiators send them again (20, which is less than their own time-out)
      keep          bytes of writes kept until they are flushed, to be sent again if the server dies before
                    (64M). Set 0 where other hosts write to the same export: initiators then get a deferred
                    error for lost writes

    The LUN may be smaller than the export. UNMAP gives space back if the server does. While the connection
    stands, commands wait for the server's answer without a limit.

    Examples: nbd/unix/run/disk.sock  nbd/tcp/storage1/10809;export=vol7;tls=/etc/pki/nbd  nbd/tcp/[::1]:10809
    """

    subtype = "nbd"

    def __init__(self, device: Device, options: NbdOptions) -> None:
        super().__init__(device, str(options.place))
        self.options = options

    @classmethod
    def parse(cls, config: str) -> NbdOptions:
        options = parse_options(NbdOptions, config, first="address")
        _ = options.place
        if not 0 < options.connections <= MOST_CONNECTIONS:
            raise ConfigError(f"option connections={options.connections}: write 1 to {MOST_CONNECTIONS}")
        if options.tls is not None and not options.tls.startswith("/"):
            raise ConfigError(f"option tls={options.tls}: write the directory's absolute path")
        if options.tls_hostname is not None and options.tls is None:
            raise ConfigError("option tls_hostname without tls has no effect: add ;tls=DIRECTORY")
        return options

    @classmethod
    def probe(cls, config: NbdOptions) -> int:
        connected, export = dial(config.place)
        connected.close()
        return export.size

    @classmethod
    async def open(cls, device: Device, config: NbdOptions) -> NbdHandler:
        handler = cls(device, config)
        await handler.begin(hold=config.hold, keep=config.keep)
        return handler

    def identity(self) -> str:
        """Only the export's place: the protocol has no identifier of its content."""
        return f"NBD {self.options.place}"

    async def connect(self) -> Sequence[tuple[socket, NbdExport]]:
        place = self.options.place
        made = [await asyncio.to_thread(dial, place)]
        try:
            if ExportFlag.CAN_MULTI_CONN in made[0][1].flags:
                while len(made) < self.options.connections:
                    made.append(await asyncio.to_thread(dial, place))
        except BaseException:
            for connected, _ in made:
                connected.close()
            raise
        return made
