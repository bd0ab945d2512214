"""RingThread: waits for commands of one ring or several, and has each dispatcher handle its own.

Before it sleeps it polls its rings for a moment.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.aio import start_thread
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.storage.blocking import CAUTION
from tcmu_runner.errors import ExhaustedError, TransportGoneError

EVENTS = select.EPOLLIN | select.EPOLLET
# A wake-up takes longer than a command; polling in vain wastes a processor (docs/adr/0019).
# Other machines may show the head before the entry: there, only a wake-up orders the two (tcmu-abi 8.24).
ORDERED = os.uname().machine in {"x86_64", "i386", "i686"}
BUSY_POLL_SECONDS = 1e-3 if ORDERED else 0.0
ALONE = len(os.sched_getaffinity(0)) == 1  # then the initiator runs only while we do not
MOST_SKIPPED = 31  # polls left out after one in vain


class Ring(Protocol):
    """A dispatcher. All methods but `wake` are called on the ring's thread."""

    def poll(self) -> bool:
        """Does what there is to do; False when there was nothing. Raises the error for `broken`."""

    def pending(self) -> bool:
        """Whether there are new commands. Cheap."""

    def busy(self) -> object:
        """Whether other threads need the interpreter lock."""

    def broken(self, error: Exception) -> None:
        """The ring cannot be served; `poll` is not called again."""

    def wake(self) -> None:
        """Makes the registered wake_fd readable."""


@dataclass(slots=True, eq=False)
class _Registration:
    """A ring that is served. events, wake: descriptors; the kernel, or our own threads, make them readable
    when `poll` has to be called. left: set once the thread does not use the ring."""

    ring: Ring
    events: int
    wake_fd: int
    left: threading.Event
    leaving: bool = False


class BusyPoller:
    """Polls while that pays: the more polls in a row were in vain, the more are left out after the next one;
    one success resets that. Used on the ring's thread. yields: lets others run between looks."""

    def __init__(
        self,
        pending: Callable[[], bool],
        seconds: float = BUSY_POLL_SECONDS,
        clock: Clock = MACHINE,
        *,
        yields: bool = ALONE,
    ) -> None:
        self._pending = pending
        self._yields = yields
        self._seconds = seconds
        self._clock = clock.monotonic
        self._skip = 0  # polls still to be left out
        self._next = 0  # how many to leave out after the next one in vain

    def sees(self, disturbed: Callable[[], object]) -> bool:
        """Polls; whether a command came. disturbed: whether to stop polling, since other work waits."""
        if self._skip:
            self._skip -= 1
            return False
        pending, clock, deadline = self._pending, self._clock, None
        while not disturbed():
            if pending():
                self._next = 0
                return True
            now = clock()  # not before the first look, which finds most commands
            deadline = deadline or now + self._seconds
            if now >= deadline:
                self._skip, self._next = self._next, min(self._next * 2 + 1, MOST_SKIPPED)
                break
            if self._yields:
                os.sched_yield()
        return False


class RingThread:
    """Serves rings from `join` to `leave`; call these on other threads.

    One thread for all rings of a process is faster than one for each: a thread gives the interpreter lock
    away at every system call, and then has to wait for it (docs/adr/0020). It runs while there are rings.

    caution: of the BlockingDetectors of these rings, in seconds.
    """

    def __init__(self, name: str, caution: float = CAUTION) -> None:
        self._name = name
        self.caution = caution
        self._lock = threading.Lock()
        self._registrations: list[_Registration] = []
        self._awake: list[_Registration] = []  # rings with recent events; only these are polled
        self._poller = select.epoll()
        self._ident = 0
        self._running = False
        self._some_leave = False
        self._busy_poller = BusyPoller(self._pending)

    def join(self, ring: Ring, events: int, wake_fd: int) -> None:
        """Polls the ring once at the beginning: entries already on it make no descriptor readable."""
        registration = _Registration(ring, events, wake_fd, threading.Event())
        with self._lock:
            # Edge-triggered: each doorbell of the kernel wakes us once, and no read() is needed to re-arm it.
            self._poller.register(events, EVENTS)
            self._poller.register(wake_fd, EVENTS)
            self._registrations.append(registration)
            ring.wake()
            if not self._running:
                self._start_for(registration)

    def leave(self, ring: Ring) -> None:
        """Returns when the thread does not use the ring."""
        with self._lock:
            mine = [each for each in self._registrations if each.ring is ring]
            for registration in mine:
                registration.leaving = self._some_leave = True
        for registration in mine:
            registration.ring.wake()
            registration.left.wait()

    def relieve(self) -> None:
        """Starts another thread for the rings. The present one, blocked in a handler, ends after that
        call."""
        with self._lock:
            self._start()

    def is_mine(self) -> bool:
        """Whether the calling thread serves the rings; False on one that `relieve` has replaced."""
        return self._ident == threading.get_ident()

    def _start_for(self, registration: _Registration) -> None:
        """If no thread can be started, removes the ring again, so that `leave` need not wait for one."""
        try:
            self._start()
        except ExhaustedError:
            self._poller.unregister(registration.events)
            self._poller.unregister(registration.wake_fd)
            self._registrations.remove(registration)
            raise

    def _start(self) -> None:
        """Raises ExhaustedError: the thread that served the rings still does."""
        before = self._running, self._ident
        self._running, self._ident = True, 0
        try:
            start_thread(self._name, self._run)
        except ExhaustedError:
            self._running, self._ident = before
            raise

    def _run(self) -> None:
        self._ident = threading.get_ident()
        self._awake = list(self._registrations)
        busy = False
        while self.is_mine() and self._any_left():
            if self._round():
                busy = True
            elif not busy or not self._busy_poller.sees(self._occupied):
                busy = False
                self._sleep()

    def _sleep(self) -> None:
        events = self._poller.poll()
        self._awake = self._waked(events)

    def _any_left(self) -> bool:
        """Removes rings that leave. False without any ring: the thread ends."""
        if self._some_leave:
            self._some_leave = False
            for registration in [
                registration for registration in self._registrations if registration.leaving
            ]:
                self._let_go(registration)
        if self._registrations:
            return True
        with self._lock:
            self._running = bool(self._registrations)
            return self._running

    def _round(self) -> bool:
        found = False
        for registration in self._awake:
            try:
                if registration.ring.poll():
                    found = True
            except Exception as error:  # a corrupt ring or a bug: this ring cannot be served further
                self._lose(registration, error)
                return True
            if found and not self.is_mine():
                return True
        if found and len(self._registrations) > 1:
            self._awake += [
                registration
                for registration in self._waked(self._poller.poll(0))
                if registration not in self._awake
            ]
        return found

    def _waked(self, events: list[tuple[int, int]]) -> list[_Registration]:
        found = {fd for fd, _ in events}
        gone = {fd for fd, mask in events if mask & select.EPOLLHUP}
        for registration in [
            registration for registration in self._registrations if registration.events in gone
        ]:
            # EPOLLHUP: the kernel has removed the device, without an event if netlink is blocked
            self._lose(registration, TransportGoneError())
        return [
            registration
            for registration in self._registrations
            if registration.events in found or registration.wake_fd in found
        ]

    def _lose(self, registration: _Registration, error: Exception) -> None:
        if registration in self._registrations:  # else the thread that replaced this one has removed it
            self._let_go(registration)
            registration.ring.broken(error)

    def _let_go(self, registration: _Registration) -> None:
        with self._lock:
            self._poller.unregister(registration.events)
            self._poller.unregister(registration.wake_fd)
            self._registrations.remove(registration)
        self._awake = [awake for awake in self._awake if awake is not registration]
        registration.left.set()

    def _pending(self) -> bool:
        for registration in self._awake:  # noqa: SIM110 - any() costs twice as much
            if registration.ring.pending():
                return True
        return False

    def _occupied(self) -> bool:
        return any(each.ring.busy() for each in self._awake)
