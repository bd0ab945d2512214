"""Notices a supervisor that stalls."""

from __future__ import annotations

import select
import socket


class Watchdog:
    """Silence on the socket `end` for `seconds` means a stall, from the first beat on: before it the kernel
    waits for no answer of this daemon. life: the read end of a pipe; all processes of the daemon hold its
    write end."""

    def __init__(self, end: socket.socket, life: int, seconds: float) -> None:
        self._end = end.fileno()
        self._wanted = select.POLLIN
        self._life = life
        self._seconds = seconds
        self._beaten = False
        self._stalled = False

    def wait(self) -> bool:
        """Blocks. True: `end` is readable; after `await_workers`: all processes have ended. False: the
        supervisor stalls; reported once for each stall."""
        poller = select.poll()
        poller.register(self._end, self._wanted)
        half = 1000 * self._seconds / 2 if self._beaten and not self._stalled else None
        # Two halves: the first may have passed while the whole machine stood still, the supervisor with us.
        self._stalled = not (poller.poll(half) or poller.poll(half))
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
