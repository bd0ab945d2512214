"""Blocking calls beside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")

_STAY = 2  # threads that wait for the next call


class _Helpers:
    """Threads for blocking calls, as many as there are calls: one that hangs for ever takes no other's place.

    A few stay. Where all processors are busy a thread that waits is woken at once, while a new one has to
    wait for its first turn (docs/adr/0004).
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0  # for a call that is not in the queue yet

    def run(self, call: Callable[[], None]) -> None:
        with self._lock:
            found = self._waiting > 0
            self._waiting -= found
        if found:
            self._calls.put(call)
        else:
            threading.Thread(target=self._live, args=(call,), name="blocking call", daemon=True).start()

    def _live(self, first: Callable[[], None]) -> None:
        first()
        del first
        while self._stays():
            self._calls.get()()

    def _stays(self) -> bool:
        with self._lock:
            stays = self._waiting < _STAY
            self._waiting += stays
            return stays


_helpers = _Helpers()


def in_thread(call: Callable[[], Result]) -> asyncio.Future[Result]:
    """Begins at once, on a thread that does nothing else meanwhile; await what it returns or raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def tell(deliver: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, deliver)

    def settle(deliver: Callable[[], None]) -> None:
        if not future.done():  # nobody waits any more after a time-out
            deliver()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            failure = error
            tell(lambda: future.set_exception(failure))
        else:
            tell(lambda: future.set_result(result))

    _helpers.run(run)
    return future
