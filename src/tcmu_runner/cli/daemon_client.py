"""Asks the running daemon, from commands that are not asynchronous themselves."""

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
LOOK_SECONDS = 30.0  # more than a daemon that works needs for what it knows, however busy the machine is


def ask(
    question: Callable[[Client], Awaitable[Answer]],
    doing: str = "",
    *,
    start: bool = False,
    seconds: float | None = LOOK_SECONDS,
) -> Answer:
    """Connects, asks, disconnects. doing: what a person waits for. start: see Client. seconds: the longest
    wait; None: without end, for what the daemon may take long to do. Raises TcmuError, with a text for the
    user."""

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
    """For the daemon that the settings name."""
    wanted = coexistence()
    return Client(wanted.bus_name, wanted.control, start=start)


def absence() -> str:
    """Why no daemon answers, as far as its lock and the kernel tell, and what that means for LUNs."""
    try:
        starting = owner(coexistence().lock) is not None
    except OSError:  # it has never run, or we are not root
        starting = False
    luns = len(scan(SYSTEM))
    waiting = f"; {luns} {'LUN waits' if luns == 1 else 'LUNs wait'} for it" if luns else ""
    return f"tcmu-runner is {'starting or stopping' if starting else 'stopped'}{waiting}"
