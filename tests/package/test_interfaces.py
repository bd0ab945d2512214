"""What is on the system bus, for whom."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.configfs import Backstore
from support.deadline import attempt, command, eventually

SERVICE = "org.kernel.TCMUService1"
ROOT, ROOT2 = "/org/kernel/TCMUService1", "/org/kernel/TCMURunner2"
MIB = 1 << 20
HANDLER = Path(__file__).parent / "external_handler.py"
pytestmark = pytest.mark.usefixtures("service")


def call(path: str, interface: str, method: str, *arguments: str, user: str = "root") -> "tuple[int, str]":
    """busctl, as a user: exit status and what it says."""
    words = ("busctl", "call", SERVICE, path, interface, method, *arguments)
    ended = attempt("runuser", "-u", user, "--", *words)
    return ended.status, ended.output + ended.errors


def test_the_documented_interfaces_can_be_seen() -> None:
    Backstore.create("vol-0", "ram/", 64 * MIB).enable()
    handler = command("busctl", "introspect", SERVICE, f"{ROOT}/ram")
    assert {".CheckConfig", ".ConfigDesc"} <= set(handler.split())
    assert ".RegisterHandler" in command("busctl", "introspect", SERVICE, f"{ROOT}/HandlerManager1")
    device = command("busctl", "introspect", SERVICE, f"{ROOT2}/devices/user_0/vol_2d0")
    for name in ("Device1", "Statistics1", "Layers1"):
        assert f"org.kernel.TCMURunner2.{name}" in device
    whole = command("gdbus", "introspect", "--system", "-d", SERVICE, "-o", ROOT2, "--recurse")
    assert "readonly s Name = 'user_0/vol-0'" in whole
    assert "Drain(in  d seconds" in whole


def test_only_handlers_are_listed_for_targetcli() -> None:
    Backstore.create("vol0", "ram/", 64 * MIB).enable()
    manager = "org.freedesktop.DBus.ObjectManager"
    _, listed = call(ROOT, manager, "GetManagedObjects")
    assert f'"{ROOT}/file"' in listed
    assert "HandlerManager1" not in listed
    assert "TCMURunner2" not in listed
    assert "user_0/vol0" in call(ROOT2, manager, "GetManagedObjects")[1]


def test_a_device_is_worked_over_the_bus() -> None:
    backstore = Backstore.create("vol0", "ram/", 64 * MIB)
    backstore.enable()
    path, interface = f"{ROOT2}/devices/user_0/vol0", "org.kernel.TCMURunner2.Device1"

    def state() -> str:
        return command("busctl", "get-property", SERVICE, path, interface, "State").strip()

    assert call(path, interface, "Drain", "d", "10") == (0, "b true\n")
    assert state() == 's "stopped"'
    assert call(path, interface, "Restart")[0] == 0
    assert state() == 's "serving"'
    assert call(path, interface, "Resize", "t", str(32 * MIB))[0] == 0
    assert backstore.show("attrib/dev_size") == str(32 * MIB)
    layers = "org.kernel.TCMURunner2.Layers1"
    status, told = call(path, layers, "Control", "sa{sv}", "ram", "0")
    assert status != 0
    assert "handler ram has nothing that can be changed" in told


PRIVILEGED = [
    (f"{ROOT}/file", SERVICE, "CheckConfig", "s", "file//etc/shadow"),
    (f"{ROOT}/HandlerManager1", f"{SERVICE}.HandlerManager1", "RegisterHandler", "ss", "mine", "mine"),
    (f"{ROOT2}/devices/user_0/vol0", "org.kernel.TCMURunner2.Device1", "Drain", "d", "1"),
    (f"{ROOT2}/devices/user_0/vol0", "org.kernel.TCMURunner2.Device1", "Restart"),
    (f"{ROOT2}/devices/user_0/vol0", "org.kernel.TCMURunner2.Device1", "Resize", "t", "1048576"),
    (f"{ROOT2}/devices/user_0/vol0", "org.kernel.TCMURunner2.Layers1", "Control", "sa{sv}", "ram", "0"),
]


NAMELESS = """
import asyncio, json, sys
from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus

async def call(name, calls):
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    for path, member in calls:
        print((await bus.call(Message(name, path, None, member))).error_name)

asyncio.run(call(sys.argv[1], json.loads(sys.argv[2])))
"""


def nameless(*calls: "tuple[str, str]") -> list[str]:
    """The errors of calls by nobody, of a path and a method, without the interface: D-Bus allows it."""
    words = ("runuser", "-u", "nobody", "--", "python3", "-c", NAMELESS, SERVICE, json.dumps(calls))
    return command(*words).splitlines()


def test_others_than_root_may_only_look() -> None:
    Backstore.create("vol0", "ram/", 64 * MIB).enable()
    for arguments in PRIVILEGED:
        status, told = call(*arguments, user="nobody")
        assert status != 0, arguments
        assert "Access denied" in told or "AccessDenied" in told, told
    told_nobody = nameless(*((path, method) for path, _, method, *_ in PRIVILEGED))
    assert told_nobody == ["org.freedesktop.DBus.Error.AccessDenied"] * len(PRIVILEGED)
    for name in (SERVICE, f"{SERVICE}.HandlerManager1.mine"):
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        request = ("busctl", "call", *bus, "RequestName", "su", name, "4")
        ended = attempt("runuser", "-u", "nobody", "--", *request)
        assert ended.status != 0
        assert "Access denied" in ended.errors
    assert call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", user="nobody")[0] == 0
    assert call(ROOT2, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", user="nobody")[0] == 0


def test_a_handler_of_another_process_lives_as_long_as_that() -> None:
    def verdict(config: str) -> str:
        return call(f"{ROOT}/outside", SERVICE, "CheckConfig", "s", config)[1]

    with subprocess.Popen([sys.executable, HANDLER, "outside"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[True, 'succeeded']\n"
        _, listed = call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        assert f'"{ROOT}/outside"' in listed
        assert verdict("outside/good") == 'bs true ""\n'
        assert verdict("outside/bad") == 'bs false "it is bad"\n'
        backstore = Backstore.create("vol0", "outside/good", 64 * MIB)
        backstore.enable()  # answered by that process, and by nobody else
        backstore.remove()
        process.kill()
    eventually("its end", lambda: "no object" in verdict("outside/good"))
