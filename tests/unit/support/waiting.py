"""Waiting for what other threads and processes do: for a condition, with a generous limit. Nothing is
asserted about time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")

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


async def succeeds(attempt: Callable[[], Awaitable[Result]], error: type[Exception]) -> Result:
    """What an attempt gives, which is made again while it raises the error."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await attempt()
        except error:
            assert time.monotonic() < deadline, "tried in vain"
        await asyncio.sleep(GLANCE)


def give_way(seconds: float = 1e-4) -> None:
    """Leaves the processor to other threads in the middle of an operation, so that they meet it there."""
    time.sleep(seconds)
