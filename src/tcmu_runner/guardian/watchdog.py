"""How the guardian tells a daemon that rests from one that stands still."""

from __future__ import annotations

import os
import select
import socket


class Watchdog:
    """Silence on `end` for `seconds` means that the daemon stands still; while it rests, only after the
    kernel has said something to it. Nothing here wakes up while neither speaks. life: the read end of a pipe
    that all processes of the daemon hold."""

    def __init__(self, end: socket.socket, life: int, seconds: float) -> None:
        self._end = end.fileno()
        self._wanted = select.POLLIN
        self._life = life
        self._seconds = seconds
        self._kernel: list[int] = []  # the descriptor from which the daemon reads events
        self._resting = False
        self._called = False  # by the kernel, and has not answered us yet
        self._stalled = False

    def wait(self) -> bool:
        """Until there is something to read from `end`, or after `await_workers` nobody is left; False, once,
        when the daemon stands still."""
        while True:
            kernel, seconds = self._watched()
            ready = self._poll(kernel, seconds)
            if self._end in ready:
                self._called = self._stalled = False
                return True
            if not ready:
                self._stalled = True
                return False
            self._called = True

    def _watched(self) -> tuple[list[int], float | None]:
        if self._stalled:
            return [], None
        if self._resting and not self._called:
            return self._kernel, None
        return [], self._seconds  # what the kernel has said stays readable until the daemon is back

    def _poll(self, kernel: list[int], seconds: float | None) -> list[int]:
        poller = select.poll()
        poller.register(self._end, self._wanted)
        for descriptor in kernel:
            poller.register(descriptor, select.POLLIN)
        return [ready for ready, _ in poller.poll(None if seconds is None else seconds * 1000)]

    def await_workers(self) -> None:
        """The supervisor has ended: from now on `wait` waits for the other processes of the daemon. What one
        of them may write to the pipe does not count, only that nobody is left to write (POLLHUP)."""
        self._end, self._wanted = self._life, 0

    @property
    def alone(self) -> bool:
        """Whether `wait` waits for the workers' end, or has seen it."""
        return self._end == self._life

    def beat(self) -> None:
        """The daemon is awake."""
        self._resting = False

    def rest(self) -> None:
        """The daemon is silent from now on, until the kernel wants something of it."""
        self._resting = True

    def hear(self, descriptor: int) -> None:
        """Takes over a duplicate of what the daemon reads the kernel's events from. It is never read here."""
        self.close()
        self._kernel = [descriptor]

    def close(self) -> None:
        """As long as the duplicate is there, the kernel believes that somebody listens."""
        for descriptor in self._kernel:
            os.close(descriptor)
        self._kernel = []
