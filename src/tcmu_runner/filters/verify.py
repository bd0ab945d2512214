"""`verify`: checks that a block reads as it was written."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.checksums import Checksums, checksums
from tcmu_runner.filters.options import parse_table
from tcmu_runner.filters.striped_lock import StripedLock
from tcmu_runner.handler.device import Device, DeviceLog, Origin
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import (
    Extents,
    Flush,
    MeasureSpace,
    Operation,
    Read,
    Remote,
    Steps,
    Unmap,
    Write,
    WriteZeroes,
)
from tcmu_runner.scsi.sense import INVALID_OPCODE, UNRECOVERED_READ_ERROR, ScsiError
from tcmu_runner.scsi.unit import Capabilities


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """directory: absolute, for the checksum files."""

    directory: Path


class Verify(Filter[VerifyOptions]):
    """Keeps a checksum of each block (CRC-32 of its number and content) in a file of its own, and checks each
    read from the storage below. A block that differs from what was written ends a READ in MEDIUM ERROR,
    UNRECOVERED READ ERROR with its LBA, and is named in the log; writing it makes it good.

      directory   where the checksums are; it has to exist. Those of vol0 are in vol0.sums there

    A block that was never written through this filter, was unmapped, or was written within 1 MiB of others in
    the last moments before a crash is taken as right when it is read first. Nothing else may write to the
    storage below. Over another storage than that of the checksums the LUN is refused;
    `tcmu-runner overlay FILE adopt` gives them to a copy.

    Takes 4 bytes for each block: 1 GiB for 1 TiB in blocks of 4096 bytes.

    Example: { filter = "verify", directory = "/var/lib/tcmu/checksums" }
    """

    name = "verify"
    threads: ClassVar[int] = 4
    privileges: ClassVar[frozenset[str]] = frozenset({"DAC_OVERRIDE"})

    def __init__(self, sums: Checksums, device: Device) -> None:
        self._sums = sums
        self._block_size = device.block_size
        self._size = device.size
        self._log: DeviceLog = device.log
        self._locks = StripedLock()

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> VerifyOptions:
        return parse_table(VerifyOptions, table)

    @classmethod
    def open(cls, device: Device, options: VerifyOptions) -> Self:
        path = sidecar.path_of(device, options.directory, "sums")
        if device.origin is not Origin.NEW and not path.exists():
            device.log.warning("checksum file %s is missing: made a new one: all blocks count as right", path)
        return cls(Checksums.open(path, device), device)

    def capabilities(self, below: Capabilities) -> Capabilities:
        return replace(below, crypto_erase=False)

    def handle(self, operation: Operation) -> Steps:
        match operation:
            case Read():
                yield from self._read(operation)
            case Write():
                yield from self._write(operation)
            case Flush():
                number = self._sums.begin_flush()
                yield operation
                self._sums.end_flush(number)
            case Unmap() | WriteZeroes():
                with self._locks.on(operation.offset, operation.length):
                    self._sums.forget(operation.offset, operation.length)
                    yield operation
            case Extents() | MeasureSpace() | Remote():
                yield operation
            case _:
                raise ScsiError(INVALID_OPCODE)

    def _read(self, operation: Read) -> Steps:
        offset, length = operation.offset, iov.length(operation.into)
        yield operation
        if self._found(operation) == self._sums.get(offset, length):
            return
        with self._locks.on(offset, length):  # so that no write is half done
            yield operation
            found, kept = self._found(operation), self._sums.get(offset, length)
            for at, (is_sum, should) in enumerate(zip(found, kept, strict=True)):
                if should not in (is_sum, 0):
                    self._refuse(offset // self._block_size + at)
            if 0 in kept:  # unknown ones are taken as right; a power loss may make blocks unknown again
                with self._sums.changing(offset, length):
                    self._sums.set(offset, found)

    def _found(self, operation: Read) -> array[int]:
        first = operation.offset // self._block_size
        return checksums(memoryview(iov.gather(operation.into)), self._block_size, first)

    def _refuse(self, lba: int) -> None:
        self._log.error("block %d differs from what was written: failed its READ: restore the block", lba)
        raise ScsiError(UNRECOVERED_READ_ERROR.with_information(lba))

    def _write(self, operation: Write) -> Steps:
        offset, length = operation.offset, iov.length(operation.data)
        sums = checksums(memoryview(iov.gather(operation.data)), self._block_size, offset // self._block_size)
        with self._locks.on(offset, length), self._sums.changing(offset, length):
            try:
                yield operation
            except BaseException:
                sums = array("I", bytes(len(sums) * sums.itemsize))  # the write may be partly done: unknown
                raise
            finally:
                self._sums.set(offset, sums)

    def resized(self, size: int) -> None:
        if size < self._size:
            self._sums.forget(size, self._size - size)
        self._size = size

    def close(self) -> None:
        self._sums.close()
