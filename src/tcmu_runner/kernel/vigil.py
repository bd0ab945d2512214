"""How the guardian tells a daemon that rests from one that stands still."""

from __future__ import annotations

import os
import select
import socket


class Vigil:
    """Silence on `end` for `seconds` means that the daemon stands still; while it rests, only after the
    kernel has said something to it. Nothing here wakes up while neither speaks."""

    def __init__(self, end: socket.socket, seconds: float) -> None:
        self._end = end
        self._seconds = seconds
        self._kernel: list[int] = []  # the descriptor from which the daemon reads events
        self._resting = False
        self._called = False  # by the kernel, and has not answered us yet
        self._stalled = False

    def wait(self) -> bool:
        """Until there is something to read from `end`; False, once, when the daemon stands still."""
        while True:
            watched, seconds = self._watched()
            readable, _, _ = select.select(watched, [], [], seconds)
            if self._end in readable:
                self._called = self._stalled = False
                return True
            if not readable:
                self._stalled = True
                return False
            self._called = True

    def _watched(self) -> tuple[list[socket.socket | int], float | None]:
        if self._stalled:
            return [self._end], None
        if self._resting and not self._called:
            return [self._end, *self._kernel], None
        return [self._end], self._seconds  # what the kernel has said stays readable until the daemon is back

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
