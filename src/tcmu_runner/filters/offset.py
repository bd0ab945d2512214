"""`offset`: a LUN that begins inside its storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.options import parse_table
from tcmu_runner.handler.device import Device
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
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError
from tcmu_runner.scsi.unit import Capabilities


@dataclass(frozen=True, slots=True)
class OffsetOptions:
    """offset: bytes of the storage before the LUN; whole blocks. Sizes are numbers, or text with K, M, G."""

    offset: int


class Offset(Filter[OffsetOptions]):
    """Skips the first bytes of the storage; they are never read or written.

      offset   bytes, for example "1M"; a multiple of the block size

    Example: { filter = "offset", offset = "1M" }
    """

    name = "offset"

    def __init__(self, offset: int) -> None:
        self._offset = offset

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> OffsetOptions:
        return parse_table(OffsetOptions, table)

    @classmethod
    def open(cls, device: Device, options: OffsetOptions) -> Self:
        if options.offset % device.block_size:
            raise ConfigError(
                f"offset {options.offset} is no multiple of the block size {device.block_size}: correct it"
            )
        return cls(options.offset)

    @classmethod
    def size_below(cls, size: int, options: OffsetOptions) -> int:
        return size + options.offset

    @classmethod
    def size_above(cls, size: int, options: OffsetOptions) -> int:
        return size - options.offset

    def identity(self, below: str) -> str:
        return f"{below}, from byte {self._offset}"

    def capabilities(self, below: Capabilities) -> Capabilities:
        """Without crypto_erase: the key below also covers bytes outside this LUN."""
        return replace(below, crypto_erase=False)

    def handle(self, operation: Operation) -> Steps:
        match operation:
            case Read() | Write() | Unmap() | WriteZeroes():
                yield replace(operation, offset=operation.offset + self._offset)
            case Extents():
                below = Extents(operation.offset + self._offset, operation.length)
                yield below
                operation.found += [run._replace(offset=run.offset - self._offset) for run in below.found]
            case Flush() | MeasureSpace() | Remote():  # Remote: a copy's operation on another LUN
                yield operation
            case _:
                raise ScsiError(INVALID_OPCODE)
