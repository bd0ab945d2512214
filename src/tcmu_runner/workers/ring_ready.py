"""The signal that a ring is empty. A server opens its storage while the supervisor still empties the ring."""

from __future__ import annotations

import os
from types import TracebackType

from tcmu_runner.errors import DeviceError


class RingReady:
    """A pipe. The supervisor empties the ring inside `with`: leaving it gives the signal, an exception
    refuses it. The server, in another process or thread, calls `wait_for` on a duplicate of `waits_at`, which
    is open until `close`."""

    def __init__(self) -> None:
        self.waits_at, self._given_at = os.pipe2(os.O_CLOEXEC)

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            os.write(self._given_at, b"\1")
        os.close(self._given_at)

    def close(self) -> None:
        os.close(self.waits_at)


def wait_for(descriptor: int) -> None:
    """Blocks. Raises DeviceError when the ring could not be emptied, or the supervisor died."""
    if not os.read(descriptor, 1):
        raise DeviceError("its ring could not be emptied")
