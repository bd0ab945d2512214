"""Rings as the supervisor sees them, while workers serve them: whether anything happens on one, and the first
command on any, which wakes an idle daemon."""

from __future__ import annotations

import select

from tcmu_runner.engine.serve.ring_thread import EVENTS
from tcmu_runner.kernel.uio import UioDevice
from tcmu_runner.ring.layout import HEAD, MAILBOX_LENGTH, TAIL


class RingMonitor:
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
        """Clears what makes `fileno` readable. A look at the rings after it misses no command."""
        while self._poller.poll(0):
            pass

    def fileno(self) -> int:
        return self._poller.fileno()


class RingActivity:
    """Reads from a ring's mailbox whether commands come or are answered, without a system call and without
    waking the worker. `ring_monitor` watches the ring as long.

    Keeps the kernel's device until `close`, as every mapping does, which comes before that of `uio`. Raises
    DeviceGone, UioError or OSError.
    """

    def __init__(self, uio: UioDevice, ring_monitor: RingMonitor) -> None:
        self._uio = uio
        self._ring_monitor = ring_monitor
        self._area = uio.map()
        self._words = memoryview(self._area)[:MAILBOX_LENGTH].cast("I")
        self._seen = (0, 0)
        ring_monitor.add(uio)

    def stirs(self) -> bool:
        """Whether commands wait there for an answer, or came or were answered since the last call."""
        before, self._seen = self._seen, (self._words[HEAD], self._words[TAIL])
        head, tail = self._seen
        return head != tail or self._seen != before

    def close(self) -> None:
        self._ring_monitor.remove(self._uio)
        self._words.release()
        self._area.close()
