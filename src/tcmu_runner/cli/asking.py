"""Asks the running daemon, from commands that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tcmu_runner import settings
from tcmu_runner.dbus.client import Client

Answer = TypeVar("Answer")


def ask(question: Callable[[Client], Awaitable[Answer]]) -> Answer:
    """Connects, asks, disconnects. Raises TcmuError whose text is for the user."""

    async def conversation() -> Answer:
        async with Client(settings.load(None).coexistence.bus_name) as daemon:
            return await question(daemon)

    return asyncio.run(conversation())
