"""Waiting for what other threads and processes do: for a condition, with a generous limit. Nothing is
asserted about time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds until a test gives up
GLANCE = 0.001  # seconds between two looks


def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; other threads or processes bring it about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(GLANCE)


async def eventually(condition: Callable[[], object]) -> None:
    """`until` on a loop, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(GLANCE)
