"""`tcmu-runner resize`, `drain` and `restart`: actions of the daemon on a device in use."""

from __future__ import annotations

import argparse
from pathlib import Path

from tcmu_runner.cli.daemon_client import ask
from tcmu_runner.cli.exports import exports
from tcmu_runner.cli.lio import Lio
from tcmu_runner.cli.output import print_json
from tcmu_runner.cli.show import find
from tcmu_runner.dbus.client import Client
from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.errors import ConfigError
from tcmu_runner.kernel import sysfs
from tcmu_runner.units import format_size


def resize(options: argparse.Namespace) -> int:
    """Raises TcmuError: the size has not changed."""

    async def question(daemon: Client) -> DeviceView:
        device = await find(daemon, options.name)
        if options.size < device.size and not options.shrink:
            lost = format_size(device.size - options.size)
            raise ConfigError(f"{device.name} would lose its last {lost}: add --shrink if that is meant")
        await daemon.resize(device.name, options.size)
        return device

    device = ask(question, f"resizing {options.name}", seconds=None)
    _rescan(device.name)
    if not options.no_save:
        Lio().save()
    if options.json:
        print_json({"name": device.name, "before": device.size, "size": options.size})
        return 0
    print(f"{device.name}: {format_size(device.size)} -> {format_size(options.size)}")
    print("  iSCSI initiators learn it at their next look: iscsiadm -m session --rescan")
    return 0


def _rescan(name: str) -> None:
    """Has loopback disks of this machine read their size again."""
    for export in exports().get(name, []):
        if export.disk:
            sysfs.write(Path("/sys/class/block", Path(export.disk).name, "device/rescan"), "1")


def drain(options: argparse.Namespace) -> int:
    """1 when commands were left after the time limit: the device is served as before. Raises TcmuError."""

    async def question(daemon: Client) -> tuple[str, bool]:
        name = (await find(daemon, options.name)).name
        return name, await daemon.drain(name, options.seconds)

    name, drained = ask(
        question, f"{options.name}: waiting for its commands, at most {options.seconds:g} s", seconds=None
    )
    if options.json:
        print_json({"name": name, "drained": drained})
    elif drained:
        print(f"{name}: drained, its storage is closed; initiators wait until: tcmu-runner restart {name}")
    else:
        print(f"{name}: commands are older than {options.seconds:g} s; it is served as before")
    return 0 if drained else 1


def restart(options: argparse.Namespace) -> int:
    """Raises TcmuError."""

    async def question(daemon: Client) -> str:
        name = (await find(daemon, options.name)).name
        await daemon.restart(name)
        return name

    name = ask(question, f"{options.name}: closing its storage and opening it anew", seconds=None)
    if options.json:
        print_json({"name": name})
    else:
        print(f"{name}: served by a new process")
    return 0
