"""Handlers that keep the whole contract, for others to break one rule of it."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterable

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import (
    NOT_HANDLED,
    AsyncHandler,
    Device,
    Extent,
    Handler,
    NotHandled,
    RawHandler,
    Space,
)
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError, Status

Buffer = bytes | bytearray | memoryview


class Store:
    """Bytes that outlive a handler's object, and processes that were forked meanwhile."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 64 << 20)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytearray:
        first, end, _ = place.indices(self._size)
        return bytearray(self._memory[first:end])

    def __setitem__(self, place: slice, content: Buffer) -> None:
        first, end, _ = place.indices(self._size)
        self._memory[first:end] = bytes(content)[: end - first]

    def extend(self, content: bytes) -> None:
        self._size += len(content)

    def clear(self) -> None:
        self._memory[: self._size] = bytes(self._size)
        self._size = 0


STORE = Store()


class Sound(Handler[str]):
    """sound/
    A disk in memory that is there again when it is opened again.
    """

    subtype = "sound"
    threads = 4

    def __init__(self, device: Device) -> None:
        self.size = device.size
        self.block_size = device.block_size
        self.lock = threading.Lock()
        STORE.extend(bytes(max(0, device.size - len(STORE))))

    @classmethod
    def parse(cls, config: str) -> str:
        if config:
            raise ConfigError("sound takes no configuration")
        return config

    @classmethod
    def open(cls, device: Device, config: str) -> Sound:
        return cls(device)

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[:] = STORE[offset : offset + len(buffer)]
            offset += len(buffer)

    def write(self, data: Buffers, offset: int) -> None:
        for buffer in data:
            STORE[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def flush(self) -> None:
        pass

    def unmap(self, offset: int, length: int) -> None:
        STORE[offset : offset + length] = bytes(length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        STORE[offset : offset + length] = bytes(length)

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        for at in range(offset, offset + length, self.block_size):
            yield Extent(at, self.block_size, mapped=bool(STORE[at : at + self.block_size].strip(b"\0")))

    def space(self) -> Space:
        return Space(len(STORE), 0)

    def crypto_erase(self) -> None:
        STORE[:] = bytes(len(STORE))

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        with self.lock:
            there = bytes(STORE[offset : offset + iov.length(expected)])
            different = iov.first_difference(there, iov.gather(expected))
            if different is None:
                self.write(data, offset)
            return different

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        STORE[offset : offset + length] = block * (length // len(block))

    def resize(self, size: int) -> None:
        STORE.extend(bytes(max(0, size - len(STORE))))
        self.size = size


class SoundAsync(AsyncHandler[str]):
    """sound_async/
    The same with asyncio.
    """

    subtype = "sound_async"

    def __init__(self, device: Device) -> None:
        self.disk = Sound(device)

    @classmethod
    async def open(cls, device: Device, config: str) -> SoundAsync:
        return cls(device)

    async def read(self, into: Buffers, offset: int) -> None:
        self.disk.read(into, offset)

    async def write(self, data: Buffers, offset: int) -> None:
        self.disk.write(data, offset)

    async def flush(self) -> None:
        pass

    async def unmap(self, offset: int, length: int) -> None:
        self.disk.unmap(offset, length)

    async def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.disk.write_zeroes(offset, length, unmap=unmap)

    async def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return list(self.disk.extents(offset, length))

    async def space(self) -> Space:
        return self.disk.space()

    async def crypto_erase(self) -> None:
        self.disk.crypto_erase()

    async def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        return self.disk.compare_and_write(expected, data, offset)

    async def write_same(self, offset: int, length: int, block: bytes) -> None:
        self.disk.write_same(offset, length, block)

    async def resize(self, size: int) -> None:
        self.disk.resize(size)


class SoundRaw(RawHandler[str]):
    """sound_raw/
    Answers one command of its own.
    """

    subtype = "sound_raw"

    def __init__(self, device: Device) -> None:
        self.disk = Sound(device)

    @classmethod
    def open(cls, device: Device, config: str) -> SoundRaw:
        return cls(device)

    def command(self, command: Command) -> Status | NotHandled:
        if command.cdb[0] == 0x0F:
            raise ScsiError(INVALID_OPCODE)
        return Status.GOOD if command.cdb[0] == 0xC1 else NOT_HANDLED

    def read(self, into: Buffers, offset: int) -> None:
        self.disk.read(into, offset)
