"""How the supervisor sees activity on rings that workers serve, and how a command wakes an idle daemon."""

from __future__ import annotations

import select

from tcmu_runner.engine.serve.ring_thread import EVENTS
from tcmu_runner.kernel.uio import UioDevice
from tcmu_runner.ring.layout import HEAD, MAILBOX_LENGTH, TAIL


class RingMonitor:
    """Watches the rings of many devices: `fileno` is readable when a command came to any since `clear`.

    Edge-triggered: the supervisor never read()s the UIO event counters, so each device stays readable after
    its first event, and only a further event counts. While no one polls `fileno`, events wake no process.
    Methods raise OSError.
    """

    def __init__(self) -> None:
        self._poller = select.epoll()

    def add(self, uio: UioDevice) -> None:
        self._poller.register(uio.fileno(), EVENTS)

    def remove(self, uio: UioDevice) -> None:
        """Call before the descriptor is closed: a worker shares the open file, which would stay
        registered."""
        self._poller.unregister(uio.fileno())

    def clear(self) -> None:
        """Makes `fileno` unreadable until the next command. Look at the rings after it: no command is
        missed."""
        while self._poller.poll(0):
            pass

    def fileno(self) -> int:
        return self._poller.fileno()


class RingActivity:
    """Reads a ring's head and tail in the mailbox: shows whether commands come or end, without a system call
    and without waking the worker. Registers the ring with `ring_monitor` until `close`.

    Its mapping keeps the kernel's device alive: call `close` before that of `uio`. Raises DeviceGone,
    UioError or OSError.
    """

    def __init__(self, uio: UioDevice, ring_monitor: RingMonitor) -> None:
        self._uio = uio
        self._ring_monitor = ring_monitor
        self._area = uio.map()
        self._words = memoryview(self._area)[:MAILBOX_LENGTH].cast("I")
        self._seen = (0, 0)
        ring_monitor.add(uio)

    def stirs(self) -> bool:
        """Whether commands wait on the ring, or any came or ended since the last call."""
        before, self._seen = self._seen, (self._words[HEAD], self._words[TAIL])
        head, tail = self._seen
        return head != tail or self._seen != before

    def close(self) -> None:
        self._ring_monitor.remove(self._uio)
        self._words.release()
        self._area.close()
