"""Notices a supervisor that stalls."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping

Poll = Callable[[Mapping[int, int], float | None], list[int]]


def poll(events: Mapping[int, int], seconds: float | None) -> list[int]:
    """Waits up to `seconds`, None: without a limit. events: poll(2)'s, by descriptor. Returns the descriptors
    that are ready; empty after `seconds`."""
    poller = select.poll()
    for descriptor, wanted in events.items():
        poller.register(descriptor, wanted)
    return [ready for ready, _ in poller.poll(None if seconds is None else seconds * 1000)]


class Watchdog:
    """Silence on the socket `end` for `seconds` means a stall, from the first beat on: before it the kernel
    waits for no answer of this daemon. life: the read end of a pipe; all processes of the daemon hold its
    write end. poll: waits, as the function here."""

    def __init__(self, end: socket.socket, life: int, seconds: float, poll: Poll = poll) -> None:
        self._end = end.fileno()
        self._wanted = select.POLLIN
        self._life = life
        self._seconds = seconds
        self._poll = poll
        self._beaten = False
        self._stalled = False

    def wait(self) -> bool:
        """Blocks. True: `end` is readable; after `await_workers`: all processes have ended. False: the
        supervisor stalls; reported once for each stall."""
        events = {self._end: self._wanted}
        half = self._seconds / 2 if self._beaten and not self._stalled else None
        # Two halves: the first may have passed while the whole machine stood still, the supervisor with us.
        self._stalled = not (self._poll(events, half) or self._poll(events, half))
        return not self._stalled

    def await_workers(self) -> None:
        """The supervisor has ended: `wait` now waits for the daemon's other processes. Data in the pipe,
        which a worker might write, is ignored; only POLLHUP counts: no process has the write end open."""
        self._end, self._wanted = self._life, 0

    @property
    def alone(self) -> bool:
        """Whether the supervisor has ended, so that `wait` waits for the workers."""
        return self._end == self._life

    def beat(self) -> None:
        """The supervisor's event loop runs."""
        self._beaten = True
