"""Transport: what a front end gives the engine for one device."""

import logging
import mmap
from typing import Protocol


class Transport(Protocol):
    """A ring's shared memory, a descriptor that wakes us, and the doorbell."""

    def area(self) -> memoryview:
        """Mailbox, ring and data area; the engine releases it before `close`."""

    def fileno(self) -> int:
        """Readable, edge by edge, when commands were queued; HUP when the device is gone."""

    def kick(self) -> None:
        """Rings the doorbell after completions were published. Any thread, one at a time; may take long."""


def unmap(area: mmap.mmap, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Closes the mapping of a ring, after the engine has released it.

    If a handler has kept a buffer of a command, the mapping stays until that buffer is freed; the log says
    so.
    """
    try:
        area.close()
    except BufferError:
        log.warning("handler has kept the buffers of a finished command: the ring stays in memory with them")
