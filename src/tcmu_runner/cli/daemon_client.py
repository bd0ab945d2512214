"""Calls the running daemon from commands that are not asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from tcmu_runner.cli.output import progress
from tcmu_runner.dbus.client import Client, NotRunningError
from tcmu_runner.errors import DeviceError
from tcmu_runner.kernel.paths import SYSTEM
from tcmu_runner.kernel.uio import scan
from tcmu_runner.lock import owner
from tcmu_runner.settings.kept import coexistence

Answer = TypeVar("Answer")
LOOK_SECONDS = 30.0  # more than a working daemon needs for an answer, even on a busy machine


def ask(
    question: Callable[[Client], Awaitable[Answer]],
    doing: str = "",
    *,
    start: bool = False,
    seconds: float | None = LOOK_SECONDS,
) -> Answer:
    """Connects, calls `question`, disconnects. doing: shown at a terminal while it waits. start: see Client.
    seconds: time limit; None: none, for calls that may take the daemon long. Raises TcmuError with a text for
    the user."""

    async def conversation() -> Answer:
        async with asyncio.timeout(seconds), client(start=start) as daemon:
            return await question(daemon)

    with progress(doing) if doing else nullcontext():
        try:
            return asyncio.run(conversation())
        except NotRunningError as error:
            raise DeviceError(f"{absence()} ({error.where}); systemctl start tcmu-runner") from None
        except TimeoutError:
            late = f"no answer within {seconds or 0:.0f} s: the daemon hangs, or is very busy"
            raise DeviceError(f"{late}; look at its log") from None


def client(*, start: bool = False) -> Client:
    """A client of the daemon that the settings name."""
    wanted = coexistence()
    return Client(wanted.bus_name, wanted.control, start=start)


def absence() -> str:
    """Why no daemon answers, as far as its lock shows, and how many LUNs wait for it."""
    try:
        starting = owner(coexistence().lock) is not None
    except OSError:  # there is no lock file yet, or we are not root
        starting = False
    luns = len(scan(SYSTEM))
    waiting = f"; {luns} {'LUN waits' if luns == 1 else 'LUNs wait'} for it" if luns else ""
    return f"tcmu-runner is {'starting or stopping' if starting else 'stopped'}{waiting}"
