"""Commands as a user gives them, on a daemon of the test's own behind a real bus."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from dbus.private_bus import private_bus
from dbus.shelf import Shelf

from tcmu_runner.cli.main import main
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.presence import presence
from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.handlers.ram import RamHandler


class Command(Protocol):
    """The words of a command to its exit status, standard output and standard error."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system bus without a daemon."""
    with private_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield


@pytest.fixture
def daemon(bus: None) -> Iterator[Shelf]:
    """What the daemon serves."""
    shelf, started = Shelf(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    registry = Registry()
    registry.add(RamHandler, FileHandler)

    async def life() -> None:
        async with presence(registry, shelf, "2.0.0", Externals(registry)):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(life(),))
    thread.start()
    assert started.wait(30), "no daemon on the bus: see what its thread has raised"
    yield shelf
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one; gives the exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def put(shelf: Shelf, view: DeviceView) -> None:
    """The daemon has this device, too; from this thread it cannot tell anybody so."""
    shelf.views[view.name] = view
