"""The one asyncio loop of this process for all asyncio handlers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")

_running: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()


def loop() -> asyncio.AbstractEventLoop:
    """Made when first needed, on a thread of its own."""
    with _starting:
        if not _running:
            made = asyncio.new_event_loop()
            threading.Thread(target=made.run_forever, name="asyncio handlers", daemon=True).start()
            _running.append(made)
        return _running[0]


def run(coroutine: Coroutine[object, object, Result]) -> Result:
    """Its result or exception; for any thread but the loop's."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop()).result()
