"""Handler, AsyncHandler, RawHandler: subclass one, and define what your storage can do."""

from __future__ import annotations

import enum
import errno
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, cast

from tcmu_runner.errors import ConfigError
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Extent, Space
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError, Status
from tcmu_runner.scsi.unit import Capabilities

if TYPE_CHECKING:
    from tcmu_runner.handler.device import Device
    from tcmu_runner.scsi.command import Command

Options = TypeVar("Options")


class Plugin(Generic[Options]):
    """What every kind of handler has. `Options` is what `parse` makes of the config string.

    subtype: the name before the first '/' of a config string; letters, digits and underscores.
    unmap_reads_zero: unmapped bytes read as zeroes (announced to initiators as LBPRZ).
    rotational: announced to initiators, who schedule accordingly.
    atomic: a write of up to a MiB is stored whole or not at all, also where the power or the process is lost
        in the middle of it. Announced to initiators (WRITE ATOMIC): Linux tells databases, which then leave
        out precautions of their own.
    privileges: Linux capabilities (names without CAP_) that its worker keeps while it runs as root.
    volatile: the content ends with the process, and so does what is remembered of it beyond that: that the
        write cache was switched off, that a FORMAT UNIT or SANITIZE did not come to its end.
    """

    subtype: ClassVar[str]
    unmap_reads_zero: ClassVar[bool] = True
    rotational: ClassVar[bool] = False
    atomic: ClassVar[bool] = False
    privileges: ClassVar[frozenset[str]] = frozenset()
    volatile: ClassVar[bool] = False

    _flushes: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._flushes = "flush" in _defined(cls)

    @classmethod
    def describe(cls) -> str:
        """What the config string means, for people (D-Bus ConfigDesc); the class's docstring by default."""
        return (inspect.getdoc(cls) or cls.subtype).rstrip() + "\n"

    @classmethod
    def parse(cls, config: str) -> Options:
        """The typed options in a config string without its subtype. Raises ConfigError with the reason.

        Called by D-Bus CheckConfig and before each `open`: touches nothing.
        """
        return cast("Options", config)

    @classmethod
    def probe(cls, config: Options) -> int | None:
        """Bytes of a storage that exists; None: it does not, or only `open` could tell. Touches nothing.

        For `tcmu-runner create` and `try` without a size. Raises OSError or ConfigError with the reason.
        """
        return None

    @classmethod
    def occupied(cls, config: Options) -> bool:
        """Whether a storage exists that may hold something, so that `tcmu-runner check` does not overwrite it
        unasked; by default one that `probe` finds. Touches nothing. Raises as `probe`."""
        return bool(cls.probe(config))

    def identity(self) -> str:
        """Which storage this open device is, in words that no other storage has and that stay the same when
        it is renamed: a UUID, an inode, an image's id. Filters record it in the files that they keep beside
        the data, and refuse those of another storage. Empty: the config string up to its first option is
        taken. Called once, off the ring's thread. Raises OSError."""
        return ""

    def control(self, table: Mapping[str, object]) -> Mapping[str, object]:
        """What an administrator changes while the device is open: see Filter.control."""
        raise ConfigError(f"handler {self.subtype} has nothing that can be changed while it is open")

    def capabilities(self) -> Capabilities:
        """What this open device can do: by default, which methods its class defines."""

        def defines(name: str) -> bool:
            return name in _defined(type(self))

        return Capabilities(
            write=defines("write"),
            flush=defines("flush"),
            unmap=defines("unmap"),
            unmap_reads_zero=self.unmap_reads_zero and defines("unmap"),
            write_zeroes=defines("write_zeroes"),
            extents=defines("extents"),
            space=defines("space"),
            crypto_erase=defines("crypto_erase"),
            compare_and_write=defines("compare_and_write"),
            write_same=defines("write_same"),
            atomic=self.atomic and defines("write"),
        )


def _defined(cls: type) -> frozenset[str]:
    """Method names that an author's class defines, not counting the bases in this module."""
    return frozenset(name for base in cls.__mro__ if base.__module__ != __name__ for name in vars(base))


class Handler(Plugin[Options]):
    """Stores the bytes of one LUN with plain blocking calls. The object is the open device.

    Buffers are lists of writable memoryviews into shared memory: fill or drain them whole or raise, return
    nothing, and do not keep them. What `read` does not fill reads as zeroes. Offsets and lengths are bytes,
    in range, multiples of the block size, never empty. Raise OSError (its errno decides the sense) or
    ScsiError; anything else counts as a bug of the handler and fails that one command. threads: at most so
    many calls for commands at once; 0: on the ring's own thread, must not block. `resize`, and what FORMAT
    UNIT and SANITIZE do in the background, come beside them on a thread of their own.

    `read` and `open` are required. Each other method you define is a capability that initiators are told of;
    `resize` and `close` are simply called when defined.
    """

    threads: ClassVar[int] = 4

    @classmethod
    def open(cls, device: Device, config: Options) -> Handler[Options]:
        """Opens the storage. Called off the ring's thread; may block for some seconds. Raise OSError or
        ConfigError to refuse the device: the administrator's `enable` fails with that errno."""
        raise NotImplementedError(f"{cls.__name__} defines no open()")

    def close(self) -> None:
        """The last call; no other runs any more. Whatever was flushed stays."""

    def read(self, into: Buffers, offset: int) -> None:
        """Fill the buffers from `offset`. One call may be for several commands on adjacent blocks; should it
        fail, each of them is tried by itself."""
        raise NotImplementedError

    def write(self, data: Buffers, offset: int) -> None:
        """Store the buffers at `offset`. See `read`."""
        raise NotImplementedError

    def write_durable(self, data: Buffers, offset: int) -> None:
        """Store the buffers so that they survive a power loss; by default `write`, then `flush`."""
        self.write(data, offset)
        if self._flushes:
            self.flush()

    def flush(self) -> None:
        """All that was written before survives a power loss when this returns."""
        raise NotImplementedError

    def unmap(self, offset: int, length: int) -> None:
        """The bytes are not needed any more. Afterwards they read as zeroes (see `unmap_reads_zero`)."""
        raise NotImplementedError

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """The bytes read as zeroes afterwards; with `unmap` their space may be given back."""
        raise NotImplementedError

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """Which parts of the range are mapped, in order, without gaps."""
        raise NotImplementedError

    def space(self) -> Space:
        """Bytes: what this disk takes of the space it is stored in, and what is left there."""
        raise NotImplementedError

    def crypto_erase(self) -> None:
        """Forget the key: nothing that was stored can be read afterwards (SANITIZE, cryptographic erase)."""
        raise NotImplementedError

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        """Store `data` at `offset` where the bytes there are `expected`, which is as long, and return None;
        else store nothing, and return the offset in `expected` of the first byte that differs. Define it
        where the storage does that at once, also for other hosts; it is not called below a filter."""
        raise NotImplementedError

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        """Store `block` (of the block size) again and again over the range. Not called below a filter."""
        raise NotImplementedError

    def resize(self, size: int) -> None:
        """The administrator wants the LUN to have `size` bytes. Raise OSError to refuse, as this does."""
        raise OSError(errno.EOPNOTSUPP, f"{type(self).__name__} cannot resize a LUN: make a new one")


class AsyncHandler(Plugin[Options]):
    """As Handler, with `async def`: commands run as tasks on one asyncio loop of the worker."""

    @classmethod
    async def open(cls, device: Device, config: Options) -> AsyncHandler[Options]:
        raise NotImplementedError(f"{cls.__name__} defines no open()")

    async def close(self) -> None:
        """See Handler.close; likewise the methods below."""

    async def read(self, into: Buffers, offset: int) -> None:
        raise NotImplementedError

    async def write(self, data: Buffers, offset: int) -> None:
        raise NotImplementedError

    async def write_durable(self, data: Buffers, offset: int) -> None:
        await self.write(data, offset)
        if self._flushes:
            await self.flush()

    async def flush(self) -> None:
        raise NotImplementedError

    async def unmap(self, offset: int, length: int) -> None:
        raise NotImplementedError

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        raise NotImplementedError

    async def extents(self, offset: int, length: int) -> Iterable[Extent]:
        raise NotImplementedError

    async def space(self) -> Space:
        raise NotImplementedError

    async def crypto_erase(self) -> None:
        raise NotImplementedError

    async def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        raise NotImplementedError

    async def write_same(self, offset: int, length: int, block: bytes) -> None:
        raise NotImplementedError

    async def resize(self, size: int) -> None:
        """See Handler.resize."""
        raise OSError(errno.EOPNOTSUPP, f"{type(self).__name__} cannot resize a LUN: make a new one")


class NotHandled(enum.Enum):
    """The type of NOT_HANDLED."""

    NOT_HANDLED = enum.auto()


NOT_HANDLED = NotHandled.NOT_HANDLED


class RawHandler(Handler[Options]):
    """Sees whole CDBs. What it does not handle goes to the built-in unit over its own read, write, ..."""

    def command(self, command: Command) -> Status | NotHandled:
        """Do the command and return its status, raise ScsiError, or return NOT_HANDLED.

        Called on one of `threads` threads. command.cdb, command.data (the buffers), command.reply(...).
        """
        raise NotImplementedError

    def read(self, into: Buffers, offset: int) -> None:
        """A raw handler without storage of its own has no READ."""
        raise ScsiError(INVALID_OPCODE)
