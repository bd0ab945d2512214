"""The daemon on a real bus: its name, what it says when it has none, handlers of other processes, signals."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType, NameFlag, RequestNameReply
from dbus_fast.aio import MessageBus
from support.waiting import eventually

from tcmu_runner.dbus import bus as bus_module
from tcmu_runner.dbus import names, service, standard, wire
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.over_bus import close
from tcmu_runner.dbus.presence import presence
from tcmu_runner.engine.observe.view import State
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler

from .private_bus import private_bus
from .shelf import Shelf, a_device

MANAGED = (names.ROOT, standard.MANAGER.name, "GetManagedObjects")
REGISTER = (names.path("HandlerManager1"), names.MANAGER.name, "RegisterHandler", "ss")


released = threading.Event()


class Odd(RamHandler):
    """odd/slow, odd/broken or odd/wrong"""

    subtype = "odd"

    @classmethod
    def parse(cls, config: str) -> str:
        if config == "broken":
            raise ZeroDivisionError("no")
        if config == "wrong":
            raise ConfigError("it is wrong")
        if config == "slow":
            released.wait()
        return config


class Peer:
    """Another process on the bus, and what it hears."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.heard: list[Message] = []
        bus.add_message_handler(self._receive)

    def _receive(self, message: Message) -> "Message | None":
        if message.message_type is MessageType.SIGNAL:
            self.heard.append(message)
        if message.member == "CheckConfig":
            return Message.new_method_return(message, "bs", [False, f"{message.path} says no"])
        return None

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> Message:
        reply = await self.bus.call(
            Message(names.SERVICE, path, interface, member, signature=signature, body=list(body))
        )
        assert reply is not None
        return reply

    async def handlers(self) -> set[str]:
        (objects,) = (await self.call(*MANAGED)).body
        return {path.rpartition("/")[2] for path in objects}

    async def hears(self, count: int) -> list[Message]:
        await eventually(lambda: len(self.signals()) >= count)
        return self.signals()

    def signals(self) -> list[Message]:
        return [message for message in self.heard if str(message.path).startswith("/org/kernel")]


async def another() -> Peer:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    match = Message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch")
    match.signature, match.body = "s", ["type='signal',path_namespace='/org/kernel'"]
    await bus.call(match)
    return Peer(bus)


def live(shelf: Shelf, life: Callable[[Peer], Awaitable[None]]) -> None:
    async def run() -> None:
        registry = Registry()
        registry.add(RamHandler, Odd)
        peer = await another()
        async with presence(registry, shelf, "2.0.0", Externals(registry)):
            await life(peer)
        await close(peer.bus)

    asyncio.run(run())


@pytest.mark.usefixtures("system_bus")
def test_check_config_always_has_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    async def life(peer: Peer) -> None:
        async def verdict(config: str, subtype: str = "odd") -> list[Any]:
            reply = await peer.call(names.path(subtype), names.SERVICE, "CheckConfig", "s", config)
            assert reply.signature == "bs"
            return list(reply.body)

        assert await verdict("odd/fine") == [True, "success"]
        assert await verdict("odd/wrong") == [False, "it is wrong"]
        assert await verdict("odd/broken") == [False, "the handler fails: ZeroDivisionError: no"]
        assert (await verdict("ram/"))[1] == "config string 'ram/' is not for handler odd"
        assert "use a shorter path" in (await verdict("odd/" + "x" * 300))[1]
        assert "white space" in (await verdict("odd/a b"))[1]
        monkeypatch.setattr(service, "CHECK_SECONDS", 0.2)
        assert (await verdict("odd/slow"))[1] == "no answer in 0 s: look at the log of tcmu-runner"
        released.set()

    live(Shelf(), life)


@pytest.mark.usefixtures("system_bus")
def test_a_handler_of_another_process() -> None:
    async def life(peer: Peer) -> None:
        assert (await peer.call(*REGISTER, "s-n", "")).body == [
            False,
            "subtype 's-n': write letters, digits and '_'",
        ]
        assert (await peer.call(*REGISTER, "ram", "")).body[0] is False
        assert (
            "own org.kernel.TCMUService1.HandlerManager1.syn first"
            in (await peer.call(*REGISTER, "syn", "")).body[1]
        )
        other = await another()
        await other.bus.request_name(names.external_name("syn"))
        assert (await other.call(*REGISTER, "syn", "synthetic")).body == [True, "succeeded"]
        assert await peer.handlers() == {"odd", "ram", "syn"}
        verdict = await peer.call(names.path("syn"), names.SERVICE, "CheckConfig", "s", "syn/x")
        assert verdict.body == [False, "/org/kernel/TCMUService1/HandlerManager1/syn says no"]
        await peer.hears(1)
        await close(other.bus)
        added, removed = await peer.hears(2)
        assert (added.member, added.path, added.body[0]) == ("InterfacesAdded", names.ROOT, names.path("syn"))
        assert (removed.member, removed.body) == ("InterfacesRemoved", [names.path("syn"), [names.SERVICE]])
        assert await peer.handlers() == {"odd", "ram"}

    live(Shelf(), life)


@pytest.mark.usefixtures("system_bus")
def test_signals_tell_of_devices() -> None:
    shelf = Shelf({"user_0/vol0": a_device()})

    async def life(peer: Peer) -> None:
        shelf.change("user_0/vol0", State.STOPPED)
        (changed,) = await peer.hears(1)
        assert (changed.path, changed.member) == (wire.path("user_0/vol0"), "PropertiesChanged")
        name, values, _ = changed.body
        assert (name, {key: value.value for key, value in values.items()}) == (
            wire.DEVICE.name,
            {"State": "stopped"},
        )
        shelf.put(a_device("user_0/vol1"))
        assert (await peer.hears(2))[1].body[0] == wire.path("user_0/vol1")
        shelf.take("user_0/vol0")
        assert (await peer.hears(3))[2].member == "InterfacesRemoved"

    live(shelf, life)


@pytest.mark.usefixtures("system_bus")
@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "error"),
    [
        ("/org/kernel/TCMURunner2/devices/user_0/vol9", wire.DEVICE.name, "Restart", "", "UnknownObject"),
        ("/org/kernel/TCMUService1/ram", names.SERVICE, "Nothing", "", "UnknownMethod"),
        ("/org/kernel/TCMUService1/ram", names.SERVICE, "CheckConfig", "u", "InvalidArgs"),
        ("/org/kernel/TCMUService1/ram", standard.PROPERTIES.name, "Get", "ss", "UnknownProperty"),
    ],
)
def test_a_caller_that_is_wrong_is_told(
    path: str, interface: str, member: str, signature: str, error: str
) -> None:
    async def life(peer: Peer) -> None:
        body = [names.SERVICE, "Colour"] if signature == "ss" else [1] * len(signature)
        reply = await peer.call(path, interface, member, signature, *body)
        assert reply.error_name == f"org.freedesktop.DBus.Error.{error}"

    live(Shelf({"user_0/vol0": a_device()}), life)


def test_without_a_bus_it_says_so_once_and_comes_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_module, "RETRY_SECONDS", 0.02)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")

    async def run() -> None:
        registry = Registry()
        async with presence(registry, Shelf(), "2.0.0", Externals(registry)):
            await eventually(complaints)
            with private_bus(tmp_path), caplog.at_level(logging.INFO):
                await eventually(lambda: "on D-Bus as org.kernel.TCMUService1" in caplog.messages)
            await eventually(lambda: len(complaints()) >= 2)

    def complaints() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]

    asyncio.run(run())
    assert "targetcli does not see our handlers" in complaints()[0]
    assert "the bus has ended the connection" in complaints()[1]
    caplog.clear()


@pytest.mark.usefixtures("system_bus")
def test_who_has_the_name_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        peer = await another()
        taken = await peer.bus.request_name(names.SERVICE, NameFlag.DO_NOT_QUEUE)
        assert taken is RequestNameReply.PRIMARY_OWNER
        registry = Registry()
        async with presence(registry, Shelf(), "2.0.0", Externals(registry)):
            pass
        await close(peer.bus)

    asyncio.run(run())
    assert "the name is taken by process" in caplog.text
    caplog.clear()
