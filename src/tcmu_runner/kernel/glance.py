"""A ring seen by who does not serve it."""

from __future__ import annotations

from tcmu_runner.kernel.alarm import Alarm
from tcmu_runner.kernel.uio import UioDevice
from tcmu_runner.ring.layout import HEAD, MAILBOX_LENGTH, TAIL


class Glance:
    """Tells whether anything happens on a ring, without a system call and without waking whoever serves it;
    what comes to it sets off the alarm, too.

    Keeps the kernel's device until `close`, as every mapping does, which comes before that of `uio`. Raises
    DeviceGone, UioError or OSError.
    """

    def __init__(self, uio: UioDevice, alarm: Alarm) -> None:
        self._uio = uio
        self._alarm = alarm
        self._area = uio.map()
        self._words = memoryview(self._area)[:MAILBOX_LENGTH].cast("I")
        self._seen = (0, 0)
        alarm.add(uio)

    def stirs(self) -> bool:
        """Whether commands wait there for an answer, or came or were answered since the last call."""
        before, self._seen = self._seen, (self._words[HEAD], self._words[TAIL])
        head, tail = self._seen
        return head != tail or self._seen != before

    def close(self) -> None:
        self._alarm.remove(self._uio)
        self._words.release()
        self._area.close()
