"""Asks the running daemon, from commands that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from tcmu_runner.cli.output import progress
from tcmu_runner.dbus.client import Client
from tcmu_runner.settings.kept import coexistence

Answer = TypeVar("Answer")


def ask(question: Callable[[Client], Awaitable[Answer]], doing: str = "") -> Answer:
    """Connects, asks, disconnects. doing: what a person waits for. Raises TcmuError whose text is for the
    user."""

    async def conversation() -> Answer:
        async with Client(coexistence().bus_name) as daemon:
            return await question(daemon)

    with progress(doing) if doing else nullcontext():
        return asyncio.run(conversation())
