"""`null/`: a disk that stores nothing, to measure everything above it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, Extent, Handler
from tcmu_runner.iov import Buffers


class NullHandler(Handler[str]):
    """null/

    A disk of any size that reads as zeroes and drops what is written; takes no configuration. To measure
    everything but the storage.
    """

    subtype = "null"
    volatile: ClassVar[bool] = True
    threads: ClassVar[int] = 0

    @classmethod
    def parse(cls, config: str) -> str:
        if config.strip("/"):
            raise ConfigError(f"null takes no configuration, found {config!r}: write null/")
        return ""

    @classmethod
    def open(cls, device: Device, config: str) -> NullHandler:
        return cls()

    def read(self, into: Buffers, offset: int) -> None:
        iov.zero(into)

    def write(self, data: Buffers, offset: int) -> None:
        pass

    write_durable = write

    def unmap(self, offset: int, length: int) -> None:
        pass

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        pass

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        return [Extent(offset, length, mapped=False)]

    def resize(self, size: int) -> None:
        """Accepts any size."""
