"""`cow`: writes go into a file of their own; the storage below is not written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.options import parse_table
from tcmu_runner.filters.overlay import Overlay
from tcmu_runner.handler.device import Device, DeviceLog
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import (
    Extent,
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
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.units import format_size


@dataclass(frozen=True, slots=True)
class CowOptions:
    """directory: absolute, for the overlays."""

    directory: Path


class Cow(Filter[CowOptions]):
    """Copy on write: blocks that are written go into an overlay, a sparse file for each device; others are
    read from the storage below, which is never written, may be read-only, and may be shared by many devices.

      directory   where the overlays are; it has to exist. The overlay of vol0 is vol0.cow there

    Flushed writes survive a power loss, all others the death of the process. UNMAP gives space of the overlay
    back. While the device is not served, `tcmu-runner overlay FILE` shows what an overlay
    holds, `tcmu-runner overlay FILE discard` empties it, and `tcmu-runner overlay FILE commit` has all of it
    written to the storage below when the device is served next, before its first command.

    An overlay belongs to the storage that it was made over, whatever the names of LUN and path: over another
    storage, or one that was made anew, the LUN is refused. `tcmu-runner overlay FILE adopt` gives it to a
    copy.

    Example: { filter = "cow", directory = "/var/lib/tcmu/overlays" }
    """

    name = "cow"
    threads: ClassVar[int] = 4
    writes: ClassVar[bool] = False  # except in a commit
    privileges: ClassVar[frozenset[str]] = frozenset({"DAC_OVERRIDE"})

    def __init__(self, overlay: Overlay, log: DeviceLog) -> None:
        self.overlay = overlay
        self._log = log
        self._below_has_extents = False

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> CowOptions:
        return parse_table(CowOptions, table)

    @classmethod
    def open(cls, device: Device, options: CowOptions) -> Self:
        path = sidecar.path_of(device, options.directory, "cow")
        sidecar.expect(path, device, "overlay")
        return cls(Overlay.open(path, device.size, device.block_size, device, device.clock), device.log)

    def start(self) -> Steps:
        if self.overlay.commit_wanted:
            yield from self._commit()

    def _commit(self) -> Steps:
        """Writes the overlay to the storage below. May be interrupted at any point: repeating it is safe."""
        total = 0
        for offset, length, mapped in self.overlay.pieces():
            data = iov.allocate(length)
            if mapped:
                self.overlay.read(data, offset)
            try:
                yield Write(offset, data)
            except NotImplementedError:
                text = f"{self.overlay.path} cannot be committed: what is below cannot be written"
                raise ConfigError(text) from None
            total += length
        yield Flush()
        self.overlay.discard()
        self._log.info("committed %s of %s", format_size(total), self.overlay.path)

    def identity(self, below: str) -> str:
        return f"overlay with {self.overlay.identity()} over {below}"

    def capabilities(self, below: Capabilities) -> Capabilities:
        self._below_has_extents = below.extents
        return replace(
            below, write=True, flush=True, unmap=True, unmap_reads_zero=True, write_zeroes=True,
            extents=True, space=True, crypto_erase=False,
        )  # fmt: skip

    def handle(self, operation: Operation) -> Steps:
        match operation:
            case Read():
                yield from self._read(operation)
            case Extents():
                yield from self._extents(operation)
            case Remote():  # a copy's operation on another LUN
                yield operation
            case _:
                self._change(operation)

    def _read(self, operation: Read) -> Steps:
        for offset, length, here in self.overlay.runs(operation.offset, iov.length(operation.into)):
            into = iov.cut(operation.into, offset - operation.offset, length)
            if here:
                self.overlay.read(into, offset)
            else:
                yield Read(offset, into)

    def _extents(self, operation: Extents) -> Steps:
        for offset, length, here in self.overlay.runs(operation.offset, operation.length):
            if here:
                operation.found += self.overlay.extents(offset, length)
            elif self._below_has_extents:
                yield (below := Extents(offset, length))
                operation.found += below.found
            else:
                operation.found.append(Extent(offset, length, mapped=True))

    def _change(self, operation: Operation) -> None:
        overlay = self.overlay
        match operation:
            case Write():
                overlay.write(operation.data, operation.offset)
            case Unmap() | WriteZeroes():
                overlay.zero(operation.offset, operation.length)
            case MeasureSpace():
                operation.found = overlay.space()
            case Flush():
                pass
            case _:
                raise ScsiError(INVALID_OPCODE)
        if isinstance(operation, Flush) or (isinstance(operation, Write | WriteZeroes) and operation.fua):
            overlay.flush()

    def resized(self, size: int) -> None:
        self.overlay.resize(size)

    def close(self) -> None:
        self.overlay.close()
