"""`tcmu-runner list`, `show` and `handlers`: the daemon's view of LUNs, and LIO's exports."""

from __future__ import annotations

import argparse
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tcmu_runner import settings
from tcmu_runner.cli.daemon_client import ask
from tcmu_runner.cli.exports import Export, exports
from tcmu_runner.cli.output import print_json, styled, table, tell
from tcmu_runner.cli.output import show as show_text
from tcmu_runner.dbus.client import Client
from tcmu_runner.engine.observe.stats_text import name as opcode_name
from tcmu_runner.engine.observe.stats_text import percentile
from tcmu_runner.engine.observe.view import DeviceEvent, DeviceView, State
from tcmu_runner.errors import ConfigError, DeviceError
from tcmu_runner.kernel.paths import SYSTEM
from tcmu_runner.kernel.uio import scan
from tcmu_runner.printable import utf8
from tcmu_runner.units import format_size

STYLES = {State.SERVING: "green", State.FAILED: "bold red", State.STOPPED: "yellow"}  # others: yellow
OPTIONS = re.compile(r"(\[;[^]]*\])+")  # of a synopsis
LAST = 10  # events that `show` prints


@dataclass(frozen=True, slots=True)
class ShownLun:
    """A device with its exports."""

    device: DeviceView
    exports: list[Export]


async def find(daemon: Client, name: str) -> DeviceView:
    """The device named vol0 or user_0/vol0. Raises ConfigError; its text lists the names."""
    devices = await daemon.devices()
    found = [each for each in devices if name in (each.name, each.name.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"several LUNs are named {name}: say which of {', '.join(d.name for d in found)}")
    known = ", ".join(each.name for each in devices) or "none"
    raise ConfigError(f"no LUN {name}; there are: {known}")


def list_luns(options: argparse.Namespace) -> int:
    """Raises TcmuError."""
    devices = ask(lambda daemon: daemon.devices())
    exported = exports()
    luns = [ShownLun(device, exported.get(device.name, [])) for device in devices]
    if options.json:
        print_json([_plain(lun) for lun in luns])
    elif not luns and (waiting := len(scan(SYSTEM))):
        print(f"no LUN is served yet; {waiting} wait: tcmu-runner is starting, or another daemon serves them")
    elif not luns:
        print("no LUNs; tcmu-runner create makes one")
    else:
        rows = [_row(lun) for lun in luns]
        show_text(table(["NAME", "STATE", "SIZE", "CONFIG", "EXPORTED AS"], rows, right=["SIZE"]))
        for device in devices:
            trouble = device.trouble(time.time())
            if trouble not in ("", device.state.value):  # the table has the state
                tell(f"{device.name}: {trouble}")
    return 0


def _row(lun: ShownLun) -> list[object]:
    device = lun.device
    exported = ", ".join(map(str, lun.exports)) or "-"
    return [device.name, state(device), format_size(device.size), device.config, exported]


def state(device: DeviceView) -> object:
    if device.state is State.SERVING and device.trouble(time.time()):
        return styled("failing", "bold red")
    return styled(device.state.value, STYLES.get(device.state, "yellow"))


def _plain(lun: ShownLun) -> dict[str, object]:
    device = lun.device
    names = ("name", "minor", "handler", "config", "size", "block_size", "state", "since", "last_error",
             "restarts", "pid")  # fmt: skip
    numbers = device.statistics
    found = {"trouble": device.trouble(time.time()), "oldest": numbers.oldest, "failure": numbers.failure,
             "failed_at": numbers.failed_at, "exports": lun.exports}  # fmt: skip
    return {**{each: getattr(device, each) for each in names}, **found}


def show(options: argparse.Namespace) -> int:
    """Raises TcmuError."""

    async def question(daemon: Client) -> tuple[DeviceView, list[DeviceEvent]]:
        device = await find(daemon, options.name)
        return device, [each for each in await daemon.device_events() if each.device == device.name]

    device, device_events = ask(question)
    lun = ShownLun(device, exports().get(device.name, []))
    if options.json:
        statistics = device.statistics
        errors = [{"status": s, "key": k, "asc": a, "ascq": q, "count": count}
                  for (s, k, a, q), count in statistics.errors.items()]  # fmt: skip
        counted = {"under_way": statistics.under_way, "oldest": statistics.oldest,
                   "opcodes": statistics.opcodes, "errors": errors}  # fmt: skip
        print_json({**_plain(lun), "statistics": counted, "happenings": device_events})
        return 0
    show_text(table(["", ""], list(_facts(lun)), headed=False))
    if device.statistics.opcodes:
        print()
        show_text(_opcodes(device))
    for line in _errors(device):
        print(line)
    if device_events:
        print("\nLast of what the log says")
        for each in device_events[-LAST:]:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.time))
            tell(f"  {at} {logging.getLevelName(each.level):7} {each.text}")
    return 0


def _facts(lun: ShownLun) -> Iterator[list[object]]:
    device, numbers = lun.device, lun.device.statistics
    yield [styled(device.name, "bold"), state(device)]
    yield ["config", device.config]
    yield ["size", f"{format_size(device.size)} in blocks of {device.block_size} bytes"]
    yield ["exported as", ", ".join(map(str, lun.exports)) or "-"]
    yield ["served by", f"process {device.pid}" if device.pid else "no process"]
    yield ["since", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(device.since))]
    yield ["restarts", str(device.restarts)]
    if trouble := device.trouble(time.time()):
        yield ["trouble", styled(trouble, "bold red")]
    if device.last_error:
        yield ["last error", styled(device.last_error, "red")]
    if numbers.failure:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(numbers.failed_at))
        yield ["last failure", styled(f"{at} {numbers.failure}", "red")]
    under_way = f"{device.statistics.under_way} commands"
    if device.statistics.oldest:
        under_way += f", the oldest for {device.statistics.oldest:.1f} s"
    yield ["under way", under_way]


def _opcodes(device: DeviceView) -> object:
    columns = ["COMMAND", "COUNT", "DATA", "ERRORS", "MEAN us", "99% us <"]
    rows = [
        [opcode_name(each.opcode), each.count, format_size(each.bytes), each.errors,
         each.microseconds // each.count, percentile(each, 0.99)]
        for each in device.statistics.opcodes
    ]  # fmt: skip
    return table(columns, rows, right=columns[1:])


def _errors(device: DeviceView) -> Iterator[str]:
    found = device.statistics.errors
    if found:
        yield "\nHow commands failed"
    for (status, key, asc, ascq), count in sorted(found.items(), key=lambda item: -item[1]):
        yield f"  status {status:02X} sense {key:X}/{asc:02X}/{ascq:02X}: {count} commands"


def handlers(options: argparse.Namespace) -> int:
    """Raises TcmuError."""
    try:
        found, problems = ask(_handlers_of_daemon)
    except DeviceError as error:
        found, problems = _handlers_of_settings()
        problems.append(f"these are what a daemon would have: {error}")
    if options.name is not None:
        if options.name not in found:
            raise ConfigError(f"no handler {options.name}; there are: {', '.join(found)}")
        found = {options.name: found[options.name]}
    if options.json:
        print_json([{"name": name, "description": told} for name, told in found.items()])
    elif options.name is not None:
        print(found[options.name].rstrip())
    else:
        rows = [_handler(name, told) for name, told in found.items()]
        show_text(table(["HANDLER", "CONFIG STRING", ""], rows))
        for problem in problems:
            tell(problem)
    return 0


async def _handlers_of_daemon(daemon: Client) -> tuple[dict[str, str], list[str]]:
    """Handlers as the daemon has them: also those of its command line, and of other processes."""
    return await daemon.handlers(), await daemon.problems()


def _handlers_of_settings() -> tuple[dict[str, str], list[str]]:
    """Handlers by the settings, when no daemon can be reached."""
    from tcmu_runner.cli.try_ import find_handler  # noqa: PLC0415 - imports a whole iSCSI target

    logger = logging.getLogger("tcmu_runner")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the command itself prints what cannot be loaded
    try:
        registry, _ = find_handler("", "", settings.load(None))
    finally:
        logger.setLevel(level)
    return {provider.subtype: utf8(provider.describe()) for provider in registry}, list(registry.problems)


def _handler(name: str, told: str) -> list[object]:
    """A row: name, synopsis without its options, and the first sentence of the description."""
    synopsis, _, rest = told.partition("\n")
    synopsis = OPTIONS.sub("[;OPTION...]", synopsis)
    words = " ".join(rest.split())
    return [name, synopsis, words.partition(". ")[0].rstrip(".")]
