"""How the engine calls a handler, imitated: on one thread, on several at once, or on an asyncio loop.

A script is a generator that yields calls of a handler and is sent their results: one text exercises blocking
and asyncio handlers.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeVar

Result = TypeVar("Result")
Call = Callable[[], object]  # returns the result, or an awaitable of it
Script = Generator[Call, object, Result]

TASKS = 32  # commands an asyncio handler gets at once
HASTY = 1e-5  # seconds after which a thread lets another one run, so that they really meet


class HungError(Exception):
    """A call has not returned within the patience of the check."""


class NotAsyncError(Exception):
    """A method of an asyncio handler returned something that cannot be awaited."""


class AsyncInPlaceError(Exception):
    """A method of a blocking handler returned a coroutine, which nobody runs."""


class Caller(Protocol):
    """width: how many scripts may run at once."""

    width: int

    def run(self, *scripts: Script[Result], patience: float) -> list[Result]:
        """Runs up to `width` scripts at once; their results, or the first one's exception. HungError after
        `patience` seconds."""

    def close(self) -> None: ...


class Lane:
    """A thread that makes calls one after the other. One that never returns does not keep the interpreter."""

    NAME = "conformance"

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=self.NAME, daemon=True).start()

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # passed to the thread that waits for the future
                future.set_exception(error)

        self._calls.put(run)
        return future

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it holds on to the buffers of a handler's call

    def close(self) -> None:
        """The thread ends after the calls it has been given."""
        self._calls.put(None)


class Threads:
    """Blocking handlers. As in the engine there is a thread more than calls at once, the ring's, which is the
    only one for threads = 0. Scripts go to the threads in turn, so that the handler meets them all."""

    def __init__(self, threads: int) -> None:
        self.width = max(1, threads)
        self._lanes = [Lane() for _ in range(1 + threads)]

    def run(self, *scripts: Script[Result], patience: float) -> list[Result]:
        self._lanes.append(self._lanes.pop(0))
        interval = sys.getswitchinterval()
        sys.setswitchinterval(HASTY if len(scripts) > 1 else interval)
        try:
            futures = [
                lane.submit(partial(_drive, script))
                for lane, script in zip(self._lanes, scripts, strict=False)
            ]
            return results(futures, patience)
        finally:
            sys.setswitchinterval(interval)

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


def results(futures: Sequence[Future[Result]], patience: float) -> list[Result]:
    """Of all of them, or the first one's exception. Raises HungError when one is not done `patience` seconds
    after the one before it."""
    for future in futures:
        try:
            future.exception(patience)
        except TimeoutError:  # of the wait: one that the call raised is returned
            raise HungError from None
    return [future.result() for future in futures]


def _drive(script: Script[Result]) -> Result:
    value: object = None
    while True:
        try:
            call = script.send(value)
        except StopIteration as end:
            result: Result = end.value
            return result
        value = call()
        if inspect.iscoroutine(value):
            value.close()
            raise AsyncInPlaceError


class Loop:
    """asyncio handlers: scripts are tasks of one loop, on a thread of its own."""

    width = TASKS

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lane = Lane()
        self._lane.submit(self._loop.run_forever)

    def run(self, *scripts: Script[Result], patience: float) -> list[Result]:
        return results(
            [asyncio.run_coroutine_threadsafe(_drive_async(script), self._loop) for script in scripts],
            patience,
        )

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._lane.submit(self._loop.close)
        self._lane.close()


async def _drive_async(script: Script[Result]) -> Result:
    value: object = None
    while True:
        try:
            call = script.send(value)
        except StopIteration as end:
            result: Result = end.value
            return result
        called = call()
        if not inspect.isawaitable(called):
            raise NotAsyncError
        value = await called
        await asyncio.sleep(0)  # so that calls of a handler that never waits overlap, too
