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
    """The common part of all handlers. `Options` is the type that `parse` returns.

    subtype: the name before the first '/' of a config string; letters, digits and underscores.
    unmap_reads_zero: unmapped bytes read as zeroes (announced to initiators as LBPRZ).
    rotational: announced to initiators, which schedule accordingly.
    atomic: a write of up to a MiB is stored whole or not at all, also when power or process are lost in the
        middle of it. Announced to initiators (WRITE ATOMIC): databases then omit precautions of their own.
    privileges: Linux capabilities (names without CAP_) that the worker keeps while it runs as root.
    volatile: the content ends with the process. Then state about it is not kept beyond the process either:
        that the write cache is off, or that a FORMAT UNIT or SANITIZE was interrupted.
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
        """The meaning of the config string, for people (D-Bus ConfigDesc); by default the class's
        docstring."""
        return (inspect.getdoc(cls) or cls.subtype).rstrip() + "\n"

    @classmethod
    def parse(cls, config: str) -> Options:
        """The typed options in a config string without its subtype. Raises ConfigError with the reason.

        Called by D-Bus CheckConfig and before each `open`. Must not touch storage.
        """
        return cast("Options", config)

    @classmethod
    def probe(cls, config: Options) -> int | None:
        """Bytes of an existing storage; None if there is none, or if only `open` can find out. Must not
        change storage.

        For `tcmu-runner create` and `try` without a size. Raises OSError or ConfigError with the reason.
        """
        return None

    @classmethod
    def occupied(cls, config: Options) -> bool:
        """Whether a storage exists that may hold data, so that `tcmu-runner check` does not overwrite it; by
        default, whether `probe` finds one. Must not change storage. Raises as `probe`."""
        return bool(cls.probe(config))

    def identity(self) -> str:
        """A text that names this open storage, differs from that of any other storage, and stays the same
        when the storage is renamed: a UUID, an inode, an image's id. Filters record it in the files that they
        keep beside the data, and refuse files of another storage. Empty: the config string up to its first
        option is used. Called once, not on the ring's thread. Raises OSError."""
        return ""

    def control(self, table: Mapping[str, object]) -> Mapping[str, object]:
        """Changes by an administrator while the device is open: see Filter.control."""
        raise ConfigError(f"handler {self.subtype} has nothing that can be changed while it is open")

    def capabilities(self) -> Capabilities:
        """The capabilities of this open device: by default, from the methods that its class defines."""

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
    """Names of methods that an author's class defines; the base classes of this module do not count."""
    return frozenset(name for base in cls.__mro__ if base.__module__ != __name__ for name in vars(base))


class Handler(Plugin[Options]):
    """Stores the bytes of one LUN with plain blocking calls. The object is the open device.

    Buffers are lists of writable memoryviews of shared memory: fill or drain them whole or raise; return
    nothing; do not keep them. Bytes that `read` does not fill are zeroes. Offsets and lengths are bytes, in
    range, multiples of the block size, never 0. Raise OSError (its errno decides the sense) or ScsiError; any
    other exception counts as a bug of the handler and fails that command. threads: the most concurrent calls
    for commands; 0: calls on the ring's own thread, which must not block. `resize`, and what FORMAT UNIT and
    SANITIZE do in the background, come beside them, on a thread of their own.

    `read` and `open` are required. Each other method that you define is a capability, announced to
    initiators; `resize` and `close` are called if you define them.
    """

    threads: ClassVar[int] = 4

    @classmethod
    def open(cls, device: Device, config: Options) -> Handler[Options]:
        """Opens the storage. Not called on the ring's thread; may block for some seconds. Raise OSError or
        ConfigError to refuse the device: the administrator's `enable` fails with that errno."""
        raise NotImplementedError(f"{cls.__name__} defines no open()")

    def close(self) -> None:
        """The last call, after all others have returned. Flushed data stays."""

    def read(self, into: Buffers, offset: int) -> None:
        """Fill the buffers from `offset`. One call may serve several commands on adjacent blocks; if it
        fails, each of them is tried by itself."""
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
        """Make all earlier writes survive a power loss."""
        raise NotImplementedError

    def unmap(self, offset: int, length: int) -> None:
        """The bytes are not needed: free their space. Afterwards they read as zeroes (`unmap_reads_zero`)."""
        raise NotImplementedError

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """The bytes read as zeroes afterwards; with `unmap` their space may be given back."""
        raise NotImplementedError

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """The mapped and unmapped parts of the range, ascending, without gaps."""
        raise NotImplementedError

    def space(self) -> Space:
        """Bytes: what this disk takes of the space that it is stored in, and what is free there."""
        raise NotImplementedError

    def crypto_erase(self) -> None:
        """Destroy the key: stored data can never be read again (SANITIZE, CRYPTOGRAPHIC ERASE)."""
        raise NotImplementedError

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        """If the bytes at `offset` are `expected`, store `data`, which is as long, and return None; else
        store nothing, and return the offset in `expected` of the first byte that differs. Define it only if
        the storage does that atomically, also towards other hosts. Not called below a filter."""
        raise NotImplementedError

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        """Store `block` (one logical block) repeatedly over the range. Not called below a filter."""
        raise NotImplementedError

    def resize(self, size: int) -> None:
        """The administrator changes the LUN to `size` bytes. Raise OSError to refuse, as this default
        does."""
        raise OSError(errno.EOPNOTSUPP, f"{type(self).__name__} cannot resize a LUN: make a new one")


class AsyncHandler(Plugin[Options]):
    """As Handler, with `async def`: commands run as tasks on the worker's asyncio loop."""

    @classmethod
    async def open(cls, device: Device, config: Options) -> AsyncHandler[Options]:
        raise NotImplementedError(f"{cls.__name__} defines no open()")

    async def close(self) -> None:
        """See Handler.close; the methods below likewise."""

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
    """Gets whole CDBs. Those that it does not handle go to the built-in unit, over its read, write, ..."""

    def command(self, command: Command) -> Status | NotHandled:
        """Do the command and return its status, raise ScsiError, or return NOT_HANDLED.

        Called on one of `threads` threads. command.cdb, command.data (the buffers), command.reply(...).
        """
        raise NotImplementedError

    def read(self, into: Buffers, offset: int) -> None:
        """For a raw handler without storage: READ is refused."""
        raise ScsiError(INVALID_OPCODE)
