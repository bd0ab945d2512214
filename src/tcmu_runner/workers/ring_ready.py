"""The go-ahead for a ring: a server opens its storage while the supervisor still empties the ring."""

from __future__ import annotations

import os
from types import TracebackType

from tcmu_runner.errors import DeviceError


class RingReady:
    """For who gives it: leaving `with` gives it, an error refuses it. `waits_at` is for who waits, in another
    process or thread: `wait_for` a duplicate of it. It is open until `close`."""

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
    """Blocks. Raises DeviceError when the go-ahead is refused or its giver is dead."""
    if not os.read(descriptor, 1):
        raise DeviceError("its ring could not be emptied")
