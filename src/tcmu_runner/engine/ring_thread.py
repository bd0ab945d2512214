"""The thread on rings: waits for commands, and has each ring do what there is to do on it."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tcmu_runner.engine.lookout import Lookout
from tcmu_runner.engine.pace import CAUTION
from tcmu_runner.engine.transport import TransportGoneError

EVENTS = select.EPOLLIN | select.EPOLLET


class Ring(Protocol):
    """All but `rouse` is called on the ring's thread."""

    def turn(self) -> bool:
        """Does what there is to do; False when there was nothing. Raises what `broken` is to be told."""

    def pending(self) -> bool:
        """Whether there are new commands. Cheap."""

    def occupied(self) -> object:
        """Whether threads of ours need the interpreter."""

    def broken(self, error: Exception) -> None:
        """It is not served any more."""

    def rouse(self) -> None:
        """Makes its `wake` readable."""


@dataclass(slots=True, eq=False)
class _Berth:
    """A ring that is served. events, wake: descriptors, readable when the kernel, or we, have something to be
    done. left: set when nobody serves it any more."""

    ring: Ring
    events: int
    wake: int
    left: threading.Event
    leaving: bool = False


class RingThread:
    """Serves rings from `join` to `leave`, which are for any other thread.

    One thread for several rings of a process is faster than one for each: at every system call a thread gives
    the interpreter lock away, and then waits for it (docs/adr/0003). It is there while there are rings.

    caution: see Pace; for the storages of these rings. errand: called once on the thread when the next ring
    has joined, before it is looked at.
    """

    def __init__(self, name: str, caution: float = CAUTION) -> None:
        self._name = name
        self.caution = caution
        self._lock = threading.Lock()
        self._berths: list[_Berth] = []
        self._awake: list[_Berth] = []  # where something came lately; only these are looked at
        self._poller = select.epoll()
        self._ident = 0
        self._running = False
        self._some_leave = False
        self._stands_by = False
        self.errand: Callable[[], None] | None = None
        self._lookout = Lookout(self._pending)

    def stand_by(self) -> None:
        """Starts the thread, which waits for its first ring: where all processors are busy a new thread would
        wait for its first turn."""
        with self._lock:
            self._stands_by = True
            self._start()

    def join(self, ring: Ring, events: int, wake: int) -> None:
        """Begins with whatever is on the ring already: that makes no descriptor readable."""
        berth = _Berth(ring, events, wake, threading.Event())
        with self._lock:
            # Edge-triggered: each doorbell of the kernel wakes us once, and no read() is needed to re-arm it.
            self._poller.register(events, EVENTS)
            self._poller.register(wake, EVENTS)
            self._berths.append(berth)
            self._stands_by = False
            ring.rouse()
            if not self._running:
                self._start()

    def leave(self, ring: Ring) -> None:
        """Returns when the thread has let go of the ring."""
        with self._lock:
            mine = [berth for berth in self._berths if berth.ring is ring]
            for berth in mine:
                berth.leaving = self._some_leave = True
        for berth in mine:
            berth.ring.rouse()
            berth.left.wait()

    def relieve(self) -> None:
        """Another thread goes on: this one is held up by a storage, and will end after it."""
        with self._lock:
            self._start()

    def is_mine(self) -> bool:
        """Whether the calling thread still is this one; not any more after `relieve`."""
        return self._ident == threading.get_ident()

    def _start(self) -> None:
        self._running, self._ident = True, 0
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        self._ident = threading.get_ident()
        self._awake = list(self._berths)
        self._do_errand()
        busy = False
        while self.is_mine() and self._any_left():
            if self._round():
                busy = True
            elif not busy or not self._lookout.sees(self._occupied):
                busy = False
                self._sleep()

    def _sleep(self) -> None:
        events = self._poller.poll()
        self._do_errand()
        self._awake = self._waked(events)

    def _do_errand(self) -> None:
        """Between when a ring is seen to have joined and its first turn."""
        if self.errand is not None:
            self.errand()
            self.errand = None

    def _any_left(self) -> bool:
        """Lets those go that leave; without any ring the thread ends."""
        if self._some_leave:
            self._some_leave = False
            for berth in [berth for berth in self._berths if berth.leaving]:
                self._let_go(berth)
        if self._berths:
            return True
        with self._lock:
            self._running = bool(self._berths) or self._stands_by
            return self._running

    def _round(self) -> bool:
        found = False
        for berth in self._awake:
            try:
                if berth.ring.turn():
                    found = True
            except Exception as error:  # a corrupt ring; whatever it is, the LUN cannot go on by itself
                self._lose(berth, error)
                return True
            if found and not self.is_mine():
                return True
        if found and len(self._berths) > 1:
            self._awake += [berth for berth in self._waked(self._poller.poll(0)) if berth not in self._awake]
        return found

    def _waked(self, events: list[tuple[int, int]]) -> list[_Berth]:
        found = {fd for fd, _ in events}
        gone = {fd for fd, mask in events if mask & select.EPOLLHUP}
        for berth in [berth for berth in self._berths if berth.events in gone]:
            # the kernel has removed the device while events were blocked, or will never tell us more
            self._lose(berth, TransportGoneError())
        return [berth for berth in self._berths if berth.events in found or berth.wake in found]

    def _lose(self, berth: _Berth, error: Exception) -> None:
        if berth in self._berths:  # else the thread that went on for this one has done it
            self._let_go(berth)
            berth.ring.broken(error)

    def _let_go(self, berth: _Berth) -> None:
        with self._lock:
            self._poller.unregister(berth.events)
            self._poller.unregister(berth.wake)
            self._berths.remove(berth)
        self._awake = [awake for awake in self._awake if awake is not berth]
        berth.left.set()

    def _pending(self) -> bool:
        for berth in self._awake:  # noqa: SIM110 - any() costs twice as much
            if berth.ring.pending():
                return True
        return False

    def _occupied(self) -> bool:
        return any(berth.ring.occupied() for berth in self._awake)
