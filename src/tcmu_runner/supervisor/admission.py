"""How many devices are opened at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TypeVar

CROWD_SECONDS = 1.0  # an opening that takes longer waits for its storage, not for a processor

Result = TypeVar("Result")


class OpenLimiter:
    """Limits how many devices open at once: if hundreds opened together, none would end within its time
    limit.

    An opening gives its place to the next one after CROWD_SECONDS, since it then waits for its storage: dead
    storages delay no other device."""

    def __init__(self, count: int = 2 * (os.cpu_count() or 1)) -> None:
        self._places = asyncio.Semaphore(count)

    async def run(self, opening: Coroutine[None, None, Result], seconds: float) -> Result:
        """The result of `opening`. TimeoutError when it takes longer than `seconds`, counted from its
        place."""
        try:
            await self._places.acquire()
        except BaseException:
            opening.close()
            raise
        task = asyncio.ensure_future(opening)
        try:
            await asyncio.wait({task}, timeout=min(CROWD_SECONDS, seconds))
        finally:
            self._places.release()
        return await asyncio.wait_for(task, max(seconds - CROWD_SECONDS, 0))
