"""What wakes a daemon that rests: the first command on any ring."""

from __future__ import annotations

import select

from tcmu_runner.engine.ring_thread import EVENTS
from tcmu_runner.kernel.uio import UioDevice


class Alarm:
    """Rings of many devices, watched together: `fileno` is readable when anything came to one since `clear`.

    Edge-triggered: nobody read()s the kernel's counter of events, so that a device is readable for ever after
    its first one, and only each further one is news. While nobody watches `fileno`, news wakes nobody.
    Raises OSError.
    """

    def __init__(self) -> None:
        self._poller = select.epoll()

    def add(self, uio: UioDevice) -> None:
        self._poller.register(uio.fileno(), EVENTS)

    def remove(self, uio: UioDevice) -> None:
        """Before its descriptor is closed: a worker shares the open file, which would go on to ring."""
        self._poller.unregister(uio.fileno())

    def clear(self) -> None:
        """Forgets what has come. Whoever looks at the rings after that misses nothing."""
        while self._poller.poll(0):
            pass

    def fileno(self) -> int:
        return self._poller.fileno()
