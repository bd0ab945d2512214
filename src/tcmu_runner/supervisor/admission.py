"""How many devices are opened at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TypeVar

CROWD_SECONDS = 1.0  # an opening that takes longer waits for something else than a processor

Result = TypeVar("Result")


class OpenLimiter:
    """Hundreds of creations at once would make each other too slow to end in time. A few run, the others wait
    their turn; one that is slow gives its place away, since it waits for its storage: dead storages hold up
    nobody else."""

    def __init__(self, count: int = 2 * (os.cpu_count() or 1)) -> None:
        self._places = asyncio.Semaphore(count)

    async def run(self, opening: Coroutine[None, None, Result], seconds: float) -> Result:
        """Its result. TimeoutError when it takes longer than `seconds` after its turn came."""
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
