"""The daemon's objects and our client for them, over a real bus."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tcmu_runner.dbus.client import Client
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.presence import presence
from tcmu_runner.engine.view import Happening, State
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.handlers.ram import RamHandler

from .shelf import BUSY, Shelf, a_device

STRANGE = "user_12/my-vol.1_ä\udcff"


@asynccontextmanager
async def daemon(shelf: Shelf) -> AsyncIterator[Client]:
    registry = Registry()
    registry.add(RamHandler, FileHandler)
    async with presence(registry, shelf, "2.0.0", Externals(registry)), Client() as client:
        yield client


def talk(shelf: Shelf, conversation: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with daemon(shelf) as client:
            await conversation(client)

    asyncio.run(run())


@pytest.mark.usefixtures("system_bus")
def test_devices_arrive_as_they_are() -> None:
    shelf = Shelf({name: a_device(name) for name in ("user_0/vol0", STRANGE)})

    async def conversation(client: Client) -> None:
        assert await client.version() == "2.0.0"
        assert await client.devices() == shelf.devices()
        shelf.change("user_0/vol0", State.STOPPED)
        shelf.take(STRANGE)
        assert [view.state for view in await client.devices()] == [State.STOPPED]

    shelf.views[STRANGE] = a_device("user_12/my-vol.1_ä")
    talk(shelf, conversation)


@pytest.mark.usefixtures("system_bus")
def test_happenings_arrive_as_they_are() -> None:
    refused = Happening(1764000000.5, "user_0/vol0", 40, "refused: no such file")
    shelf = Shelf(told=[refused, Happening(1.0, "", 20, "")])

    async def conversation(client: Client) -> None:
        assert await client.happenings() == shelf.told

    talk(shelf, conversation)


@pytest.mark.usefixtures("system_bus")
def test_requests_reach_the_device() -> None:
    shelf = Shelf({"user_0/vol0": a_device()})

    async def conversation(client: Client) -> None:
        assert await client.drain("user_0/vol0", 2.5) is True
        await client.restart("user_0/vol0")
        await client.resize("user_0/vol0", 1 << 41)

    talk(shelf, conversation)
    assert shelf.asked == [
        ("drain", "user_0/vol0", 2.5),
        ("restart", "user_0/vol0"),
        ("resize", "user_0/vol0", 1 << 41),
    ]


@pytest.mark.usefixtures("system_bus")
def test_a_refusal_keeps_its_text_and_errno() -> None:
    async def conversation(client: Client) -> None:
        with pytest.raises(DeviceError, match="plug it in") as refusal:
            await client.restart("user_0/vol0")
        assert refusal.value.errno == errno.EBUSY
        with pytest.raises(DeviceError, match="no device user_0/vol1") as refusal:
            await client.restart("user_0/vol1")
        assert refusal.value.errno == errno.ENODEV

    talk(Shelf({"user_0/vol0": a_device()}, refusal=BUSY), conversation)


@pytest.mark.usefixtures("system_bus")
def test_handlers_and_their_verdicts() -> None:
    async def conversation(client: Client) -> None:
        handlers = await client.handlers()
        assert handlers == {"file": FileHandler.describe(), "ram": RamHandler.describe()}
        assert await client.check_config("ram/") == ""
        assert "contains ','" in await client.check_config("file//srv/a,b")
        assert await client.check_config("r-ma/") == "no handler 'r-ma'; there are: file, ram"

    talk(Shelf(), conversation)


@pytest.mark.usefixtures("system_bus")
def test_without_a_daemon_the_remedy_is_told() -> None:
    async def ask() -> None:
        async with Client() as client:
            await client.devices()

    with pytest.raises(DeviceError, match="systemctl start tcmu-runner"):
        asyncio.run(ask())


def test_without_a_bus_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")

    async def ask() -> None:
        async with Client() as client:
            await client.devices()

    with pytest.raises(DeviceError, match="cannot reach the system bus"):
        asyncio.run(ask())


@pytest.mark.usefixtures("system_bus")
def test_a_layer_is_changed_by_a_table() -> None:
    table = {"rules": [{"on": "read", "nth": 3, "probability": 0.5, "lose": True}, {}], "empty": [], "n": -1}
    shelf = Shelf({"user_0/vol0": a_device()})

    async def conversation(client: Client) -> None:
        assert await client.control("user_0/vol0", "error", table) == table

    talk(shelf, conversation)
    assert shelf.asked == [("control", "user_0/vol0", "error", table)]
