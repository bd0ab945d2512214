"""Handlers that break one rule each. BROKEN: the check that has to find it, the handler, what it says."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from support.waiting import give_way

from tcmu_runner.handler import Device, Extent, NotHandled, Space
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import Status
from tcmu_runner.scsi.unit import Capabilities

from .sound import STORE, Sound, SoundAsync, SoundRaw

Subject = Sound | SoundAsync | SoundRaw
Class = TypeVar("Class", bound=type[Subject])
BROKEN: list[tuple[str, type[Subject], str]] = []


def broken(check: str, words: str) -> Callable[[Class], Class]:
    """Decorator: `check` has to fail, and to say `words`."""

    def note(cls: Class) -> Class:
        BROKEN.append((check, cls, words))
        return cls

    return note


# -- declaration ---------------------------------------------------------------------------------------


@broken("opening", "opening returned None: return the handler's object from open()")
class OpensNothing(Sound):
    """broken"""

    @classmethod
    def open(cls, device: Device, config: str) -> None:  # type: ignore[override]
        cls(device)


@broken("class", "must be letters, digits or '_'")
class BadSubtype(Sound):
    """broken"""

    subtype = "bad-name"


@broken("class", "is async: subclass tcmu_runner.AsyncHandler")
class AsyncByMistake(Sound):
    """broken"""

    async def unmap(self, offset: int, length: int) -> None:  # type: ignore[override]
        pass


@broken("class", "threads = -1: say how many calls may run at once")
class NegativeThreads(Sound):
    """broken"""

    threads = -1


@broken("config", "raised IndexError (list index out of range): raise ConfigError with the reason")
class ParsesCarelessly(Sound):
    """broken"""

    @classmethod
    def parse(cls, config: str) -> str:
        return config.split("/")[1]


@broken("config", "describe() says nothing: write a docstring")
class SaysNothing(Sound):
    """ """


@broken("opening", "capabilities() returns none: return Capabilities(write=True, ...)")
class TellsNothing(Sound):
    """broken"""

    def capabilities(self) -> None:  # type: ignore[override]
        pass


@broken("capabilities", "it tells write_zeroes without defining it: define write_zeroes(), or do not tell it")
class TellsTooMuch(SoundRaw):
    """broken"""

    def capabilities(self) -> Capabilities:
        return Capabilities(write_zeroes=True)


@broken("capabilities", "changes while it is open")
class ChangesItsMind(Sound):
    """broken"""

    told = True

    def capabilities(self) -> Capabilities:
        self.told = not self.told
        return Capabilities(write=self.told)


@broken("capabilities", "it tells unmap_reads_zero without unmap")
class PromisesZeroes(Sound):
    """broken"""

    def capabilities(self) -> Capabilities:
        return Capabilities(write=True, unmap_reads_zero=True)


# -- transfers -----------------------------------------------------------------------------------------


@broken("read", "left byte 2559 of the buffer as it was: fill it all")
class LeavesTheLastByte(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        super().read([buffer[:-1] for buffer in into], offset)


@broken("read", "returned bytearray: data travels in the buffers only")
class ReturnsData(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> bytearray:  # type: ignore[override]
        super().read(into, offset)
        return STORE[offset : offset + sum(map(len, into))]


@broken("read", "raised KeyError ('no such object') at broken.py:")
class RaisesWhatItLikes(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        raise KeyError("no such object")


@broken("read", "raised SystemExit")
class Exits(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        raise SystemExit


@broken("read", "belongs to another thread")
class BoundToOneThread(Sound):
    """broken"""  # as an sqlite3 connection is

    threads = 0

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.thread = threading.get_ident()

    def read(self, into: Buffers, offset: int) -> None:
        if threading.get_ident() != self.thread:
            raise OSError("belongs to another thread")
        super().read(into, offset)


@broken("read", "used on two threads")
class OneThreadAtATime(Sound):
    """broken"""  # threads = 1 is one call at a time, on the ring's thread or another

    threads = 1
    thread = 0

    def read(self, into: Buffers, offset: int) -> None:
        self.thread = self.thread or threading.get_ident()
        if threading.get_ident() != self.thread:
            raise OSError("used on two threads")
        super().read(into, offset)


@broken("write", "store every byte where it belongs")
class WritesWholePages(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data, offset // 4096 * 4096)


@broken("bounds", "at 1048064 raised OSError")
class ForgetsTheLastBlock(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        if offset + sum(map(len, into)) >= self.size:
            raise OSError("out of range")
        super().read(into, offset)


@broken("bounds", "read of 1048576 bytes at 0 raised MemoryError")
class CannotDoMuch(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        if sum(map(len, into)) > 600 << 10:
            raise MemoryError("too much")
        super().read(into, offset)


@broken("many buffers", "1100 buffers")
class ForgetsIovMax(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data[:1024], offset)


@broken("odd splits", "fill or drain one buffer after the other")
class CountsInBlocks(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        for buffer in data:
            super().write([buffer], offset)
            offset += len(buffer) // self.block_size * self.block_size


@broken("odd splits", "a read into 4 buffers gets byte 1 wrong")
class FillsOnlyTheFirst(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        super().read(into[:1], offset)
        for buffer in into[1:]:
            buffer[:] = bytes(len(buffer))


@broken("buffers", "after the buffers of a write were used for something else")
class KeepsWhatItIsLent(Sound):
    """broken"""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.later: list[tuple[Buffers, int]] = []

    def write(self, data: Buffers, offset: int) -> None:
        self.later.append((data, offset))

    def read(self, into: Buffers, offset: int) -> None:
        for data, at in self.later:
            super().write(data, at)
        super().read(into, offset)


@broken("buffers", "write keeps a view of its buffers: copy what you need")
class KeepsAView(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data, offset)
        self.last = data[-1][:1]


@broken("buffers", "write changed the data in its buffers: change a copy")
class EncryptsInPlace(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        super().write(data, offset)
        for buffer in data:
            buffer[:] = bytes(len(buffer))


@broken("buffers", "read changed the list of buffers: change a copy of it")
class ConsumesTheList(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        while into:
            buffer = into.pop(0)
            super().read([buffer], offset)
            offset += len(buffer)


@broken("flush", "flush raised NotImplementedError () at broken.py:")
class FlushIsToDo(Sound):
    """broken"""

    def flush(self) -> None:
        raise NotImplementedError


@broken("write durable", "store as write() does, then make sure of it")
class DurableIsToDo(Sound):
    """broken"""

    def write_durable(self, data: Buffers, offset: int) -> None:
        pass


@broken("random sequence", "of a random sequence, byte")
class RemembersTooLong(Sound):
    """broken"""  # unmapping and writing a block again brings its old neighbour back

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.zeroed: dict[int, bytes] = {}

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.zeroed[offset] = bytes(STORE[offset : offset + length])
        super().write_zeroes(offset, length, unmap=unmap)

    def flush(self) -> None:
        for offset, old in self.zeroed.items():
            super().write([memoryview(old)], offset)
        self.zeroed.clear()


# -- provisioning --------------------------------------------------------------------------------------


@broken("unmap", "clear these bytes and no others")
class UnmapsWholePages(Sound):
    """broken"""

    def unmap(self, offset: int, length: int) -> None:
        first, end = offset // 4096 * 4096, -(-(offset + length) // 4096) * 4096
        super().unmap(first, end - first)


@broken("unmap", "or say unmap_reads_zero = False")
class UnmapKeepsTheBytes(Sound):
    """broken"""

    def unmap(self, offset: int, length: int) -> None:
        pass


@broken("unmap", "raised TypeError")
class UnmapWithOtherArguments(Sound):
    """broken"""

    def unmap(self, offset: int) -> None:  # type: ignore[override]
        pass


@broken("write zeroes", "unmap=False), byte")
class ZeroesOnlyToUnmap(Sound):
    """broken"""

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        if unmap:
            super().write_zeroes(offset, length, unmap=unmap)


@broken("extents", "in order, without gaps or overlaps")
class ExtentsWithGaps(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return (extent for extent in super().extents(offset, length) if extent.mapped)


@broken("extents", "cover the range to its end, and not beyond")
class ExtentsBeyondTheRange(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [Extent(offset, self.size - offset, mapped=True)]


@broken("extents", "what may hold data is mapped=True")
class ExtentsWithoutData(Sound):
    """broken"""

    unmap_reads_zero = False

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [Extent(offset, length, mapped=False)]


@broken("extents", "a hole reads as zeroes")
class HolesWithOldData(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [Extent(offset, length, mapped=length == 4 * self.block_size)]


@broken("extents", "is no number of whole blocks")
class ExtentsOfBytes(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [Extent(offset, 100, mapped=True), Extent(offset + 100, length - 100, mapped=True)]


@broken("extents", "has a tuple: give Extent(offset, length, mapped) objects")
class ExtentsAsTuples(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [(offset, length, True)]  # type: ignore[list-item]


@broken("extents", "extents() gives a NoneType: yield Extent objects, or return a list")
class ExtentsOfNothing(Sound):
    """broken"""

    def extents(self, offset: int, length: int) -> None:  # type: ignore[override]
        pass


@broken("space", "space() gives Space(used=-1, available=0): return Space(used, available), in bytes, from 0")
class LessThanNothing(Sound):
    """broken"""

    def space(self) -> Space:
        return Space(-1, 0)


@broken("space", "space() gives 4096")
class SpaceIsANumber(Sound):
    """broken"""

    def space(self) -> int:  # type: ignore[override]
        return 4096


@broken("crypto erase", "reads as before: forget the key")
class RemembersTheKey(Sound):
    """broken"""

    def crypto_erase(self) -> None:
        STORE[:4096] = bytes(4096)


# -- shortcuts -----------------------------------------------------------------------------------------


@broken("compare and write", "write nothing where one byte differs")
class WritesWhateverIsThere(Sound):
    """broken"""

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        different = super().compare_and_write(expected, data, offset)
        self.write(data, offset)
        return different


@broken("compare and write", "return the offset in `expected`")
class SaysOnlyThatItDiffers(Sound):
    """broken"""

    def compare_and_write(self, expected: Buffers, data: Buffers, offset: int) -> int | None:
        return None if super().compare_and_write(expected, data, offset) is None else -1


@broken("write same", "repeat the block over the range")
class WritesOneBlock(Sound):
    """broken"""

    def write_same(self, offset: int, length: int, block: bytes) -> None:
        STORE[offset : offset + len(block)] = block


# -- traffic -------------------------------------------------------------------------------------------


@broken("at once", "lock what calls share")
class WritesPagesWithoutLock(Sound):
    """broken"""

    def write(self, data: Buffers, offset: int) -> None:
        first, end = offset // 4096 * 4096, -(-(offset + sum(map(len, data))) // 4096) * 4096
        page = STORE[first:end]
        give_way()
        at = offset - first
        for buffer in data:
            page[at : at + len(buffer)] = buffer
            at += len(buffer)
        STORE[first:end] = page


@broken("at once", "lock what calls share")
class SharesAPosition(Sound):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        self.position = offset
        give_way()
        super().read(into, self.position)


@broken("at once", "lock what calls share")
class AwaitsInTheMiddle(SoundAsync):
    """broken"""

    async def read(self, into: Buffers, offset: int) -> None:
        self.position = offset
        await asyncio.sleep(0)
        self.disk.read(into, self.position)


@broken("inline", "gave up the processor to wait for something: set threads = 4")
class WaitsOnTheRing(Sound):
    """broken"""

    threads = 0

    def read(self, into: Buffers, offset: int) -> None:
        give_way()
        super().read(into, offset)


@broken("command", "returned None: return Status.GOOD, another Status, or NOT_HANDLED")
class AnswersNothing(SoundRaw):
    """broken"""

    def command(self, command: Command) -> Status | NotHandled:
        return None  # type: ignore[return-value]


@broken("command", "raised IndexError")
class KnowsOnlyLongCommands(SoundRaw):
    """broken"""

    def command(self, command: Command) -> Status | NotHandled:
        return Status.GOOD if command.cdb[9] else Status.BUSY


@broken("read", "returned nothing to await: define it with async def")
class NotAsync(SoundAsync):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:  # type: ignore[override]
        self.disk.read(into, offset)


# -- life ----------------------------------------------------------------------------------------------


@broken("resize", "raised KeyError")
class ResizesBadly(Sound):
    """broken"""

    def resize(self, size: int) -> None:
        raise KeyError(size)


@broken("resize", "keep what is stored")
class ResizeStartsOver(Sound):
    """broken"""

    def resize(self, size: int) -> None:
        super().resize(size)
        STORE[:] = bytes(len(STORE))


@broken("resize", "serve all of it")
class ResizeDoesNothing(Sound):
    """broken"""

    def resize(self, size: int) -> None:
        pass

    def read(self, into: Buffers, offset: int) -> None:
        if offset < self.size:
            super().read(into, offset)


@broken("resize", "raised ValueError")
class MovesUnderUse(Sound):
    """broken"""

    view: memoryview | None = None

    def resize(self, size: int) -> None:
        super().resize(size)
        self.view = memoryview(bytes(8))
        self.view.release()
        give_way(0.01)
        self.view = None

    def read(self, into: Buffers, offset: int) -> None:
        if self.view is not None:
            bytes(self.view)
        super().read(into, offset)


@broken("reopening", "it holds 6 more file descriptors: let close() end whatever open() began")
class LeaksDescriptors(Sound):
    """broken"""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        LEAKED.append(os.open("/dev/null", os.O_RDONLY))


@broken("reopening", "it holds 6 more threads")
class LeaksThreads(Sound):
    """broken"""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        threading.Thread(target=RELEASE.wait, daemon=True).start()


@broken("reopening", "close raised OSError")
class ClosesBadly(Sound):
    """broken"""

    def close(self) -> None:
        raise OSError("cannot close")


@broken("closing", "close raised OSError")
class ClosesBadlyAtLast(Sound):
    """broken"""

    opened = 0

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        type(self).opened += 1

    def close(self) -> None:
        if self.opened > 7:
            raise OSError("cannot close")


@broken("persistence", "after it was flushed, closed and opened again")
class StartsEmpty(Sound):
    """broken"""

    def __init__(self, device: Device) -> None:
        STORE.clear()
        super().__init__(device)


@broken("durability", "store all before flush() returns, and not in close()")
class StoresInClose(Sound):
    """broken"""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.here = bytearray(STORE[:])

    def capabilities(self) -> Capabilities:
        return Capabilities(write=True, flush=True)

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[:] = self.here[offset : offset + len(buffer)]
            offset += len(buffer)

    def write(self, data: Buffers, offset: int) -> None:
        for buffer in data:
            self.here[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def resize(self, size: int) -> None:
        raise OSError("it has one size")

    def close(self) -> None:
        STORE[:] = self.here


PID = os.getpid()


@broken("durability", "in a process of its own: flush raised OSError (not here)")
class FlushesInOneProcessOnly(Sound):
    """broken"""

    def flush(self) -> None:
        if os.getpid() != PID:
            raise OSError("not here")


@broken("durability", "its process has ended by itself")
class EndsInAnotherProcess(Sound):
    """broken"""

    def flush(self) -> None:
        if os.getpid() != PID:
            os._exit(3)


class Failing(Sound):
    """broken"""

    failing = False

    def read(self, into: Buffers, offset: int) -> None:
        if self.failing:
            raise OSError("dead")
        super().read(into, offset)


@broken("errors", "neither write nor flush failed although the storage does: let the error out")
class SwallowsErrors(Failing):
    """broken"""


@broken("errors", "read returned although the storage fails")
class ReadsAnything(Failing):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        Sound.read(self, into, offset)


@broken("errors", "read raised RuntimeError")
class RaisesOtherErrors(Failing):
    """broken"""

    def read(self, into: Buffers, offset: int) -> None:
        if self.failing:
            raise RuntimeError("dead")
        super().read(into, offset)


LEAKED: list[int] = []
RELEASE = threading.Event()
