"""Handlers that an initiator's defects and their regression tests need."""

import errno
import time
from pathlib import Path

from tcmu_runner import NOT_HANDLED, Buffers, Command, Device, NotHandled, RawHandler, Status, iov
from tcmu_runner.testing import RamHandler

VENDOR_SPECIFIC, VARIABLE_LENGTH = 0xC1, 0x7F


class Vendor(RawHandler[str]):
    """vendor//PATH: does commands of the vendor, which take until PATH exists."""

    subtype = "vendor"

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    @classmethod
    def open(cls, device: Device, config: str) -> "Vendor":
        return cls(Path(config))

    def read(self, into: Buffers, offset: int) -> None:
        iov.zero(into)

    def write(self, data: Buffers, offset: int) -> None:
        """Without it the disk were write-protected, and sg_raw would not open it."""

    def command(self, command: Command) -> Status | NotHandled:
        if command.cdb[0] not in (VENDOR_SPECIFIC, VARIABLE_LENGTH):
            return NOT_HANDLED
        while not self.gate.exists():
            time.sleep(0.02)
        return Status.GOOD


class StickyRam(RamHandler):
    """stickyram/: as ram, but UNMAP fails."""

    subtype = "stickyram"

    def unmap(self, offset: int, length: int) -> None:
        raise OSError(errno.EIO, "cannot give anything back")
