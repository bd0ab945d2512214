"""How a command ends: exceptions become status and sense, reply lengths become what the ring can say."""

from __future__ import annotations

import time

from tcmu_runner import iov
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.sense import INTERNAL_TARGET_FAILURE, ScsiError, ScsiStatusError, Status

QUIET_SECONDS = 1.0

Ending = tuple[int, bytes]
GOOD: Ending = (Status.GOOD, b"")


def valid_length(command: Command, *, can_tell: bool) -> int:
    """The read_len of a GOOD command: 0 when its buffers are valid whole. `can_tell`: the ring has READ_LEN.

    Buffers are never handed on with what an earlier command left in them. An empty answer cannot be
    expressed (0 means all), so one zeroed byte is returned; for data-out the other side ignores it.
    """
    data = command.data
    if not data:
        return 0
    total = len(data[0]) if len(data) == 1 else iov.length(data)
    returned = command.returned or 0
    if returned == total:
        return 0
    if not returned:
        data[0][:1] = b"\0"
        returned = 1
    if can_tell:
        return returned
    iov.zero(iov.cut(data, returned, total - returned))
    return 0


class Verdict:
    """Turns what a command raised into its ending, and tells the log what a person should know."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._silent_until = 0.0
        self._unsaid = 0

    def ending(self, command: Command, error: BaseException, operation: Operation | None) -> Ending:
        """Status and encoded sense of a command that raised `error` during `operation`."""
        if isinstance(error, OSError):
            self._say(command, operation, f"{type(error).__name__}: {error}")
            error = scsi_error(error, operation)
        if isinstance(error, ScsiError):
            return Status.CHECK_CONDITION, error.sense.encode(descriptor=command.descriptor_sense)
        if isinstance(error, ScsiStatusError):
            return error.status, b""
        self._device.log.error(
            "bug in the handler while it did command %s", command.cdb.hex(), exc_info=error
        )
        sense = INTERNAL_TARGET_FAILURE.encode(descriptor=command.descriptor_sense)
        return Status.CHECK_CONDITION, sense

    def _say(self, command: Command, operation: Operation | None, text: str) -> None:
        """At most one line a second for each device: a dead disk must not fill the log's."""
        now = time.monotonic()
        if now < self._silent_until:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more like it before)" if self._unsaid else ""
        what = type(operation).__name__.lower() if operation is not None else "command"
        self._device.log.warning("%s of command %s failed: %s%s", what, command.cdb.hex(), text, more)
        self._silent_until, self._unsaid = now + QUIET_SECONDS, 0
