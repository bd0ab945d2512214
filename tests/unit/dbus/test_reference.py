"""docs/reference/dbus.md against what the daemon's objects say of themselves."""

import asyncio
import re
from pathlib import Path
from xml.etree import ElementTree

from dbus_fast import Message

from tcmu_runner.dbus.devices import DevicesBranch
from tcmu_runner.dbus.external import Externals
from tcmu_runner.dbus.service import ServiceBranch
from tcmu_runner.dbus.tree import Tree
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler

from .shelf import Shelf, a_device

PAGE = Path(__file__).parents[3] / "docs/reference/dbus.md"
PATHS = [
    "/org/kernel/TCMUService1/ram",
    "/org/kernel/TCMUService1/HandlerManager1",
    "/org/kernel/TCMURunner2",
    "/org/kernel/TCMURunner2/devices/user_0/vol0",
]


def described() -> dict[str, set[str]]:
    """By interface: its members, as the page writes them."""
    sections = re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)
    return {
        section.split()[0]: set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))
        for section in sections
        if section.startswith("org.")
    }


def introspected() -> dict[str, set[str]]:
    registry = Registry()
    registry.add(RamHandler)
    shelf = Shelf({"user_0/vol0": a_device()})
    tree = Tree([ServiceBranch(registry, Externals(registry)), DevicesBranch(shelf, "2.0.0")])
    found: dict[str, set[str]] = {}
    for path in PATHS:
        message = Message("a.b", path, "org.freedesktop.DBus.Introspectable", "Introspect", serial=1)
        (xml,) = asyncio.run(tree.answer(message)).body
        for interface in ElementTree.fromstring(xml).iter("interface"):
            if not interface.attrib["name"].startswith("org.freedesktop."):
                found[interface.attrib["name"]] = set(map(written, interface))
    return found


def written(member: ElementTree.Element) -> str:
    name = member.attrib["name"]
    if member.tag == "property":
        return f"{name} {member.attrib['type']}"
    takes, gives = (
        ", ".join(
            f"{each.attrib['type']} {each.attrib['name']}"
            for each in member
            if each.attrib["direction"] == way
        )
        for way in ("in", "out")
    )
    return f"{name}({takes})" + (f" → ({gives})" if gives else "")


def test_the_page_has_every_interface_and_member() -> None:
    assert described() == introspected()
