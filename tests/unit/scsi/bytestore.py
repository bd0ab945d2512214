"""A storage in a bytearray, and a unit driven over it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import (
    CryptoErase,
    Extent,
    Extents,
    Flush,
    MeasureSpace,
    Operation,
    Read,
    Space,
    Unmap,
    Write,
    WriteZeroes,
)
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError, Sense
from tcmu_runner.scsi.unit import Unit


class ByteStore:
    """Checks each operation's contract: in range, aligned, not empty. Keeps which blocks are mapped."""

    def __init__(self, size: int, block_size: int) -> None:
        self.disk = bytearray(size)
        self.block_size = block_size
        self.mapped = [False] * (size // block_size)

    def perform(self, operation: Operation) -> None:
        match operation:
            case Read(offset, into):
                self._check(offset, iov.length(into))
                iov.scatter(into, self.disk[offset : offset + iov.length(into)])
            case Write(offset, data):
                content = iov.gather(data)
                self._check(offset, len(content))
                self.disk[offset : offset + len(content)] = content
                self._mark(offset, len(content), mapped=True)
            case Unmap(offset, length) | WriteZeroes(offset, length):
                self._check(offset, length)
                self.disk[offset : offset + length] = bytes(length)
                self._mark(offset, length, mapped=False)
            case Extents(offset, length):
                self._check(offset, length)
                operation.found.extend(self._extents(offset, length))
            case MeasureSpace():
                operation.found = Space(sum(self.mapped) * self.block_size, 0)
            case CryptoErase():
                self.disk[:] = bytes(len(self.disk))
                self._mark(0, len(self.disk), mapped=True)
            case Flush():
                pass
            case _:
                raise AssertionError(f"unexpected {operation}")

    def close(self) -> None:
        """It has nothing to let go of."""

    def _check(self, offset: int, length: int) -> None:
        assert length > 0
        assert offset % self.block_size == 0
        assert length % self.block_size == 0
        assert 0 <= offset <= offset + length <= len(self.disk)

    def _mark(self, offset: int, length: int, *, mapped: bool) -> None:
        for block in range(offset // self.block_size, (offset + length) // self.block_size):
            self.mapped[block] = mapped

    def _extents(self, offset: int, length: int) -> list[Extent]:
        size = self.block_size
        return [Extent(at, size, self.mapped[at // size]) for at in range(offset, offset + length, size)]


class Performs(Protocol):
    def perform(self, operation: Operation) -> None: ...


def run(
    unit: Unit, store: Performs, cdb: bytes, data: Buffers, nexus: Nexus
) -> tuple[int, Sense | None, bytes]:
    """(status, sense, valid data-in) of one command over the storage."""
    command = Command(cdb, data, nexus)
    try:
        plan = unit.begin(command)
        if isinstance(plan, Generator):
            for operation in plan:
                store.perform(operation)
        elif plan is not None:
            store.perform(plan)
    except ScsiError as error:
        return 2, error.sense, b""
    except ScsiStatusError as error:
        return error.status, None, b""
    return 0, None, iov.gather(data)[: command.returned or 0]
