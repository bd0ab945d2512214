"""What a front end hands to the engine for one device."""

from typing import Protocol


class TransportGoneError(Exception):
    """The other side has taken the device away; there is nobody left to answer."""


class Transport(Protocol):
    """The ring's shared memory, a descriptor that wakes us, and the doorbell."""

    def area(self) -> memoryview:
        """Mailbox, ring and data area; the engine releases it before `close`."""

    def fileno(self) -> int:
        """Becomes readable, each time anew, when commands were queued; HUP when the device is gone."""

    def kick(self) -> None:
        """Tells the other side that completions were published. Any thread, one at a time; may take long."""
