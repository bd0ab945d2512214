"""Threads and event loops: starting threads, running blocking calls and background tasks from a loop, and the
one loop of all asyncio handlers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from tcmu_runner.errors import ExhaustedError

Result = TypeVar("Result")

_THREAD_LIMITS = "raise workers.memory in the settings, TasksMax= of the service, or the system's limits"


def start_thread(name: str, run: Callable[..., object], *arguments: object) -> threading.Thread:
    """Runs `run(*arguments)` on a new daemon thread. Raises ExhaustedError if the system refuses one."""
    thread = threading.Thread(target=run, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:  # pthread_create(3): EAGAIN, which Python hides
        raise ExhaustedError(f"cannot start the thread {name!r}: {_THREAD_LIMITS}") from error
    return thread


def in_thread(call: Callable[[], Result]) -> asyncio.Future[Result]:
    """Starts `call` at once on a thread of its own, so that one that hangs delays no other; await the future
    for its result or exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def tell(deliver: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: no one awaits the future
            loop.call_soon_threadsafe(settle, deliver)

    def settle(deliver: Callable[[], None]) -> None:
        if not future.done():  # else it was cancelled, as by a time-out
            deliver()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            failure = error
            tell(lambda: future.set_exception(failure))
        else:
            tell(lambda: future.set_result(result))

    start_thread("blocking call", run)
    return future


class Tasks:
    """Keeps references to tasks: the loop has weak ones only, so that a task could be collected half-way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)


_running: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()
os.register_at_fork(after_in_child=_running.clear)  # a forked child does not have the loop's thread


def loop() -> asyncio.AbstractEventLoop:
    """The loop, started on a thread of its own at the first call."""
    with _starting:
        if not _running:
            made = asyncio.new_event_loop()
            start_thread("asyncio handlers", made.run_forever)
            _running.append(made)
        return _running[0]


def run(coroutine: Coroutine[object, object, Result]) -> Result:
    """Runs a coroutine on the loop and waits for its result. Not on the loop's own thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop()).result()
