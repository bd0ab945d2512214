"""What a front end hands to the engine for one device."""

import logging
import mmap
from typing import Protocol


class Transport(Protocol):
    """The ring's shared memory, a descriptor that wakes us, and the doorbell."""

    def area(self) -> memoryview:
        """Mailbox, ring and data area; the engine releases it before `close`."""

    def fileno(self) -> int:
        """Becomes readable, each time anew, when commands were queued; HUP when the device is gone."""

    def kick(self) -> None:
        """Tells the other side that completions were published. Any thread, one at a time; may take long."""


def unmap(area: mmap.mmap, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Closes the mapping of a ring, after the engine has released it.

    A handler that has kept a buffer of a command keeps the mapping with it: the log says so, and the memory
    is freed with the buffer.
    """
    try:
        area.close()
    except BufferError:
        log.warning(
            "its handler has kept the buffers of a finished command: the ring stays in memory with them"
        )
