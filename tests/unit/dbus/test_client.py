"""The daemon's objects and our client for them, over a real bus."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tcmu_runner.dbus.client import Client, NotRunningError
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.presence import presence
from tcmu_runner.engine.observe.view import DeviceEvent, State
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
def test_bytes_that_are_no_text_arrive_as_escapes() -> None:
    """In each text; and the device is found by the name that arrives."""
    bytes_ = "\udcf6\0"  # 0xF6 is no UTF-8; no string of D-Bus has a NUL
    strange = replace(a_device(STRANGE), config=f"file//gr{bytes_}", handler=bytes_, last_error=bytes_)
    shelf = Shelf({STRANGE: strange}, told=[DeviceEvent(1.0, STRANGE, 40, bytes_)])

    async def conversation(client: Client) -> None:
        (view,) = await client.devices()
        assert (view.name, view.config) == ("user_12/my-vol.1_ä\\xff", "file//gr\\xf6\\x00")
        assert (view.handler, view.last_error) == ("\\xf6\\x00", "\\xf6\\x00")
        assert [(each.device, each.text) for each in await client.device_events()] == [
            (view.name, "\\xf6\\x00")
        ]
        await client.restart(view.name)
        shelf.refusal = OSError(errno.ENOENT, bytes_)
        with pytest.raises(DeviceError, match=r"\\xf6"):
            await client.drain(view.name, 1)
        assert "no UTF-8" in await client.check_config("ram/\udcf6")

    talk(shelf, conversation)
    assert shelf.asked[0] == ("restart", STRANGE)


@pytest.mark.usefixtures("system_bus")
def test_an_answer_that_cannot_be_sent_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """The caller must not wait for it."""
    shelf = Shelf(told=[DeviceEvent(1.0, "", 1 << 40, "")])  # of which D-Bus is told "i"

    async def conversation(client: Client) -> None:
        with pytest.raises(DeviceError, match="bug: "):
            await asyncio.wait_for(client.device_events(), 20)
        assert await client.version() == "2.0.0"

    talk(shelf, conversation)
    assert "the answer to D-Bus call Happenings" in caplog.text
    caplog.clear()


@pytest.mark.usefixtures("system_bus")
def test_a_handler_that_could_not_be_loaded_is_told_of() -> None:
    shelf = Shelf(broken=["s3.py cannot be loaded: no boto3"])

    async def conversation(client: Client) -> None:
        assert await client.problems() == shelf.broken
        told = await client.check_config("s3/bucket")  # what `create` asks
        assert told == "no handler 's3'; there are: file, ram; s3.py cannot be loaded: no boto3"

    talk(shelf, conversation)


@pytest.mark.usefixtures("system_bus")
def test_happenings_arrive_as_they_are() -> None:
    refused = DeviceEvent(1764000000.5, "user_0/vol0", 40, "refused: no such file")
    shelf = Shelf(told=[refused, DeviceEvent(1.0, "", 20, "")])

    async def conversation(client: Client) -> None:
        assert await client.device_events() == shelf.told

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


@pytest.mark.usefixtures("system_bus")
def test_a_question_starts_no_daemon() -> None:
    """systemctl stop would fail while somebody looks."""

    async def conversation(*, start: bool) -> None:
        async with Client(start=start) as client:
            await client.devices()

    with pytest.raises(NotRunningError, match="no tcmu-runner is running"):
        asyncio.run(conversation(start=False))
    with pytest.raises(DeviceError) as tried:
        asyncio.run(conversation(start=True))
    assert not isinstance(tried.value, NotRunningError)
