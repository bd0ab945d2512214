"""Devices and events as D-Bus values: names, paths, and conversion in both directions.

Interface names contain a version: members are never removed from it; new ones may be added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tcmu_runner.dbus.interface import Interface, Method, Property
from tcmu_runner.engine.observe.statistics import OpcodeStatistics, Snapshot
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.printable import utf8

ROOT = "/org/kernel/TCMURunner2"
_PREFIX = "org.kernel.TCMURunner2."

DAEMON = Interface(
    _PREFIX + "Daemon1",
    properties=(Property("Version", "s"),),
    methods=(
        Method("Happenings", gives=(("happenings", "a(dsis)"),)),
        Method("Problems", gives=(("problems", "as"),)),
    ),
)
DEVICE = Interface(
    _PREFIX + "Device1",
    properties=(
        Property("Name", "s"),
        Property("Minor", "u"),
        Property("Handler", "s"),
        Property("Config", "s"),
        Property("Size", "t"),
        Property("BlockSize", "u"),
        Property("State", "s"),
        Property("Since", "d"),
        Property("LastError", "s"),
        Property("Restarts", "u"),
        Property("Pid", "u"),
    ),
    methods=(
        Method("Drain", takes=(("seconds", "d"),), gives=(("drained", "b"),)),
        Method("Restart"),
        Method("Resize", takes=(("size", "t"),)),
    ),
)
LAYERS = Interface(
    _PREFIX + "Layers1",
    methods=(Method("Control", takes=(("layer", "s"), ("table", "a{sv}")), gives=(("settings", "a{sv}"),)),),
)
STATISTICS = Interface(
    _PREFIX + "Statistics1",
    properties=(
        Property("UnderWay", "u", tells=False),
        Property("Oldest", "d", tells=False),
        Property("Opcodes", "a(yttttat)", tells=False),
        Property("Errors", "a(yyyyt)", tells=False),
        Property("Failure", "s", tells=False),
        Property("FailedAt", "d", tells=False),
    ),
)

_SPECIAL = re.compile("[^A-Za-z0-9]")


def is_exact(name: str) -> bool:
    """Whether the name has no escaped byte, so that `path` finds the device by it."""
    return "\\" not in name


def path(name: str) -> str:
    """The path of a device's object: user_0/vol0 is .../devices/user_0/vol0; in the device's own name each
    byte other than ASCII letters and digits is _ and two hex digits."""
    hba, _, device = name.partition("/")
    text = device.encode(errors="surrogateescape").decode("latin-1")  # a character for each byte
    own = _SPECIAL.sub(lambda match: f"_{ord(match[0]):02x}", text)
    return f"{ROOT}/devices/{hba}/{own}"


def device(view: DeviceView) -> dict[str, object]:
    """The properties of DEVICE."""
    return {
        "Name": utf8(view.name),
        "Minor": view.minor,
        "Handler": utf8(view.handler),
        "Config": utf8(view.config),
        "Size": view.size,
        "BlockSize": view.block_size,
        "State": view.state.value,
        "Since": view.since,
        "LastError": utf8(view.last_error),
        "Restarts": view.restarts,
        "Pid": view.pid,
    }


def statistics(snapshot: Snapshot) -> dict[str, object]:
    """The properties of STATISTICS."""
    return {
        "UnderWay": snapshot.under_way,
        "Oldest": snapshot.oldest,
        "Opcodes": [
            [each.opcode, each.count, each.bytes, each.errors, each.microseconds, list(each.histogram)]
            for each in snapshot.opcodes
        ],
        "Errors": [[*kind, count] for kind, count in snapshot.errors.items()],
        "Failure": utf8(snapshot.failure),
        "FailedAt": snapshot.failed_at,
    }


def view(about: Mapping[str, Any], numbers: Mapping[str, Any]) -> DeviceView:
    """A DeviceView from the properties of DEVICE and STATISTICS, without variants."""
    opcodes = tuple(
        OpcodeStatistics(opcode, count, length, errors, microseconds, tuple(histogram))
        for opcode, count, length, errors, microseconds, histogram in numbers["Opcodes"]
    )
    kinds = {(status, key, asc, ascq): count for status, key, asc, ascq, count in numbers["Errors"]}
    return DeviceView(
        name=about["Name"],
        minor=about["Minor"],
        handler=about["Handler"],
        config=about["Config"],
        size=about["Size"],
        block_size=about["BlockSize"],
        state=State(about["State"]),
        since=about["Since"],
        last_error=about["LastError"],
        restarts=about["Restarts"],
        pid=about["Pid"],
        statistics=Snapshot(
            numbers["UnderWay"],
            numbers["Oldest"],
            opcodes,
            kinds,
            failure=numbers.get("Failure", ""),
            failed_at=numbers.get("FailedAt", 0.0),  # an older daemon has none
        ),
    )


def device_event(one: DeviceEvent) -> list[object]:
    """An element of the result of Happenings."""
    return [one.time, utf8(one.device), one.level, utf8(one.text)]
