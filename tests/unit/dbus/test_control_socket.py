"""The daemon's objects on the control socket, and our client there: without a bus, or beside one."""

import asyncio
import errno
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tcmu_runner.dbus import names, over_socket, wire
from tcmu_runner.dbus.client import Client, NotRunningError
from tcmu_runner.dbus.control_socket import control_socket, is_root
from tcmu_runner.dbus.devices import DevicesBranch
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.presence import presence
from tcmu_runner.dbus.service import ServiceBranch
from tcmu_runner.engine.observe.view import DeviceEvent
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler

from .shelf import BUSY, Shelf, a_device

VOL0 = "user_0/vol0"


@pytest.fixture
def no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


def anybody(_uid: int) -> bool:
    return True


@asynccontextmanager
async def daemon(
    path: Path, shelf: Shelf, version: str = "2.0.0", allowed: Callable[[int], bool] = anybody
) -> AsyncIterator[None]:
    registry = Registry()
    registry.add(RamHandler)
    branches = ServiceBranch(registry, Externals(registry)), DevicesBranch(shelf, version)
    async with control_socket(path, branches, allowed):
        yield


def talk(path: Path, shelf: Shelf, conversation: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with daemon(path, shelf), Client(control=path) as client:
            await conversation(client)

    asyncio.run(run())


@pytest.mark.usefixtures("no_bus")
def test_all_that_is_on_the_bus_arrives_without_one(path: Path) -> None:
    told = [DeviceEvent(1764000000.5, VOL0, 40, "no such file"), DeviceEvent(1.0, "", 20, "")]
    names_ = (VOL0, "user_12/my-vol.1_ä")
    shelf = Shelf({each: a_device(each) for each in names_}, told=told, broken=["no boto3"])

    async def conversation(client: Client) -> None:
        assert await client.version() == "2.0.0"
        assert await client.devices() == shelf.devices()
        assert await client.device_events() == told
        assert await client.problems() == ["no boto3"]
        assert await client.handlers() == {"ram": RamHandler.describe()}
        assert await client.check_config("ram/") == ""
        assert "white space" in await client.check_config("ram/a b")

    talk(path, shelf, conversation)


@pytest.mark.usefixtures("no_bus")
def test_requests_reach_the_device(path: Path) -> None:
    table = {"rules": [{"on": "read", "nth": 3, "probability": 0.5, "lose": True}, {}], "empty": [], "n": -1}
    shelf = Shelf({VOL0: a_device()})

    async def conversation(client: Client) -> None:
        assert await client.drain(VOL0, 2.5) is True
        await client.restart(VOL0)
        await client.resize(VOL0, 1 << 41)
        assert await client.control(VOL0, "error", table) == table

    talk(path, shelf, conversation)
    assert shelf.asked == [
        ("drain", VOL0, 2.5),
        ("restart", VOL0),
        ("resize", VOL0, 1 << 41),
        ("control", VOL0, "error", table),
    ]


@pytest.mark.usefixtures("no_bus")
def test_bytes_that_are_no_text_arrive_as_escapes(path: Path) -> None:
    shelf = Shelf({"user_0/\udcff": a_device("user_0/\udcff")})

    async def conversation(client: Client) -> None:
        (view,) = await client.devices()
        assert view.name == "user_0/\\xff"
        await client.restart(view.name)
        shelf.refusal = OSError(errno.ENOENT, "\udcf6")
        with pytest.raises(DeviceError, match=r"\\xf6"):
            await client.restart(view.name)

    talk(path, shelf, conversation)
    assert shelf.asked[0] == ("restart", "user_0/\udcff")


@pytest.mark.usefixtures("no_bus")
def test_a_refusal_keeps_its_text_and_errno(path: Path) -> None:
    async def conversation(client: Client) -> None:
        with pytest.raises(DeviceError, match="plug it in") as refusal:
            await client.restart(VOL0)
        assert refusal.value.errno == errno.EBUSY
        with pytest.raises(DeviceError, match="no device user_0/vol1") as refusal:
            await client.restart("user_0/vol1")
        assert refusal.value.errno == errno.ENODEV

    talk(path, Shelf({VOL0: a_device()}, refusal=BUSY), conversation)


@pytest.mark.usefixtures("no_bus")
def test_a_bug_is_answered_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def conversation(client: Client) -> None:
        with pytest.raises(DeviceError, match="bug: ZeroDivisionError: no"):
            await client.restart(VOL0)
        assert await client.version() == "2.0.0"

    talk(path, Shelf({VOL0: a_device()}, refusal=ZeroDivisionError("no")), conversation)
    assert "a call on the control socket failed" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("restart", "InvalidArgs"),
        ("[]", "InvalidArgs"),
        ({"path": 4}, "InvalidArgs"),
        ({"arguments": []}, "InvalidArgs"),
        ({"arguments": ["8"]}, "InvalidArgs"),
        ({"arguments": [-1]}, "InvalidArgs"),
        ({"arguments": [True]}, "InvalidArgs"),
        ({"method": "Grow"}, "UnknownMethod"),
        ({"interface": "a.b"}, "UnknownMethod"),
        ({"path": "/"}, "UnknownObject"),
        ({"method": []}, "InvalidArgs"),
        (
            {
                "path": names.path("HandlerManager1"),
                "interface": names.MANAGER.name,
                "method": "RegisterHandler",
                "arguments": ["s", ""],
            },
            "UnknownMethod",
        ),
    ],
)
def test_a_caller_that_is_wrong_is_told(path: Path, request_: "str | dict[str, Any]", error: str) -> None:
    right = {"path": wire.path(VOL0), "interface": wire.DEVICE.name, "method": "Resize", "arguments": [8]}
    line = request_ if isinstance(request_, str) else json.dumps(right | request_)

    async def run() -> None:
        async with daemon(path, Shelf({VOL0: a_device()})):
            reader, writer = await asyncio.open_unix_connection(path)
            for asked in (line, json.dumps(right)):  # the connection stays
                writer.write(asked.encode() + b"\n")
                answers.append(json.loads(await reader.readline()))
            writer.close()

    answers: list[dict[str, Any]] = []
    asyncio.run(run())
    assert answers[0]["error"] == f"org.freedesktop.DBus.Error.{error}"
    assert answers[1] == {"results": []}


@pytest.mark.usefixtures("no_bus")
def test_only_root_is_served(path: Path) -> None:
    assert (is_root(0), is_root(1000)) == (True, False)
    shelf, uids = Shelf({VOL0: a_device()}), []

    def nobody(uid: int) -> bool:
        uids.append(uid)
        return False

    async def run() -> None:
        async with daemon(path, shelf, allowed=nobody), Client(control=path) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(DeviceError, match="permission denied: only root"):
                await client.restart(VOL0)

    asyncio.run(run())
    assert (shelf.asked, uids) == ([], [os.getuid()])


@pytest.mark.usefixtures("no_bus")
def test_who_may_not_connect_is_not_told_that_it_is_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_path: Path, _request: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    async def run() -> None:
        async with Client(control=path) as client:
            await client.devices()

    monkeypatch.setattr(over_socket, "call", refuse)
    with pytest.raises(DeviceError, match=f"system bus: .*, and only root may connect to {path}") as refusal:
        asyncio.run(run())
    assert not isinstance(refusal.value, NotRunningError)


@pytest.mark.usefixtures("system_bus")
def test_a_daemon_that_is_not_on_the_bus_is_found_on_its_socket(path: Path) -> None:
    async def run() -> None:
        async with Client(control=path) as client, Client(control=path, start=True) as creator:
            with pytest.raises(NotRunningError) as absent:
                await client.devices()
            async with daemon(path, Shelf()):
                assert await client.version() == await creator.version() == "2.0.0"
            async with daemon(path, Shelf(), version="2.0.1"):  # which has restarted
                assert await client.version() == "2.0.1"
        told = absent.value.where
        assert "nobody is org.kernel.TCMUService1 on the system bus" in told
        assert f"cannot reach {path}" in told

    asyncio.run(run())


@pytest.mark.usefixtures("system_bus")
def test_the_bus_goes_first(path: Path) -> None:
    async def run() -> None:
        registry = Registry()
        async with (
            presence(registry, Shelf(), "on the bus", Externals(registry)),
            daemon(path, Shelf(), version="on the socket"),
            Client(control=path) as client,
        ):
            assert await client.version() == "on the bus"

    asyncio.run(run())


@pytest.mark.usefixtures("no_bus")
def test_without_a_daemon_both_places_are_named(path: Path) -> None:
    async def run() -> None:
        async with Client(control=path) as client:
            with pytest.raises(NotRunningError, match=r"cannot reach the system bus: .*, and cannot reach /"):
                await client.devices()

    asyncio.run(run())


@pytest.mark.usefixtures("no_bus")
def test_the_socket_of_a_dead_daemon_is_replaced_and_ours_goes(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def conversation(client: Client) -> None:
        assert await client.version() == "2.0.0"

    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
    talk(path, Shelf(), conversation)
    assert not path.exists()


@pytest.mark.usefixtures("no_bus")
@pytest.mark.parametrize("alive", [True, False])
def test_what_is_somebody_elses_stays(path: Path, caplog: pytest.LogCaptureFixture, *, alive: bool) -> None:
    async def second(told: str) -> None:
        async with daemon(path, Shelf(), version="the second"):
            assert told in caplog.text
            assert "correct [coexistence] control" in caplog.text

    async def run() -> None:
        if not alive:
            path.parent.mkdir()
            path.write_text("mine")
            await second("this is no socket")
            assert path.read_text() == "mine"
            return
        async with daemon(path, Shelf(), version="the first"), Client(control=path) as client:
            await second("another daemon listens there")
            assert await client.version() == "the first"

    asyncio.run(run())
    caplog.clear()


@pytest.mark.usefixtures("no_bus")
def test_a_daemon_that_stops_does_not_wait_for_its_callers(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Shelf):
        async def drain(self, name: str, seconds: float) -> bool:
            begun.set()
            return await asyncio.Event().wait()

    async def run() -> None:
        async with Client(control=path) as client:
            async with daemon(path, Slow({VOL0: a_device()})):
                asking = asyncio.create_task(client.drain(VOL0, 3600))
                await begun.wait()
            with pytest.raises(DeviceError, match="without an answer"):
                await asyncio.wait_for(asking, 60)

    begun = asyncio.Event()
    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert not caplog.records


@pytest.mark.usefixtures("no_bus")
def test_neither_side_needs_the_library_for_d_bus() -> None:
    modules = "control_socket, service, devices, external, client"
    script = f"import sys; sys.modules['dbus_fast'] = None; from tcmu_runner.dbus import {modules}"
    subprocess.run([sys.executable, "-c", script], check=True)
