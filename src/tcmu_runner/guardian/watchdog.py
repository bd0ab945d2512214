"""Tells a resting supervisor from a stalled one."""

from __future__ import annotations

import os
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
    """Silence on the socket `end` for `seconds` means a stall; while the supervisor rests, only after a
    netlink event has arrived. Does not wake up while neither sends. life: the read end of a pipe; all
    processes of the daemon hold its write end. poll: waits, as the function here."""

    def __init__(self, end: socket.socket, life: int, seconds: float, poll: Poll = poll) -> None:
        self._end = end.fileno()
        self._wanted = select.POLLIN
        self._life = life
        self._seconds = seconds
        self._poll = poll
        self._kernel: list[int] = []  # the duplicate of the supervisor's netlink socket, if it was sent
        self._resting = False
        self._called = False  # a netlink event has arrived, and the supervisor has sent nothing since
        self._stalled = False

    def wait(self) -> bool:
        """Blocks. True: `end` is readable; after `await_workers`: all processes have ended. False: the
        supervisor stalls; reported once for each stall."""
        while True:
            kernel, seconds = self._watched()
            ready = self._poll({self._end: self._wanted, **dict.fromkeys(kernel, select.POLLIN)}, seconds)
            if self._end in ready:
                self._called = self._stalled = False
                return True
            if not ready:
                self._stalled = True
                return False
            self._called = True

    def _watched(self) -> tuple[list[int], float | None]:
        if self._stalled or not self._kernel:  # without a listener the kernel waits for no answer
            return [], None
        if self._resting and not self._called:
            return self._kernel, None
        return [], self._seconds  # not the netlink socket: it stays readable until the supervisor reads it

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
        self._resting = False

    def rest(self) -> None:
        """The supervisor sends nothing until a netlink event arrives."""
        self._resting = True

    def hear(self, descriptor: int) -> None:
        """Takes over a duplicate of the supervisor's netlink socket; it is polled, never read."""
        self.close()
        self._kernel = [descriptor]

    def close(self) -> None:
        """Closes the duplicate: while it is open, the kernel believes that a daemon listens."""
        for descriptor in self._kernel:
            os.close(descriptor)
        self._kernel = []
