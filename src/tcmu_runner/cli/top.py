"""`tcmu-runner top`: rates of all LUNs, live."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tcmu_runner.cli.daemon_client import absence, client
from tcmu_runner.cli.optional import need
from tcmu_runner.cli.output import Fitting, console, print_json, styled, table
from tcmu_runner.dbus.client import Client, NotRunningError
from tcmu_runner.engine.observe.statistics import Snapshot
from tcmu_runner.engine.observe.view import DeviceView, State
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Moves

NUMBERS = ["READ/s", "MB/s", "WRITE/s", "MB/s", "OTHER/s", "AVG us", "QUEUE", "OLDEST", "ERRORS"]
# Columns that are left out, by index, on ever narrower terminals.
NARROWER = ((), (4,), (4, 7), (1, 3, 4, 7), (1, 3, 4, 6, 7))


READS = DISK.moving(Moves.READ)
WRITES = DISK.moving(Moves.WRITE)


@dataclass(frozen=True, slots=True)
class Rates:
    """One device between two looks. Per second: reads, writes, others, and the bytes of the first two. mean:
    microseconds of a command. errors: since the daemon serves the device."""

    name: str
    state: str
    reads: float
    read_bytes: float
    writes: float
    write_bytes: float
    others: float
    mean: float
    queue: int
    oldest: float
    errors: int


def run(options: argparse.Namespace) -> int:
    """Runs until Ctrl-C, or for --count looks. Raises TcmuError."""
    try:
        asyncio.run(_watch(options))
    except KeyboardInterrupt:
        return 0
    return 0


async def _watch(options: argparse.Namespace) -> None:
    async with client() as daemon:
        before, since = await _first(daemon), time.monotonic()
        with _Screen(options.json) as screen:
            looks = 0
            while not options.count or looks < options.count:
                await asyncio.sleep(options.interval)
                try:
                    devices, now = await daemon.devices(), time.monotonic()
                except NotRunningError:  # keep looking: the daemon may come back
                    screen.tell(absence())
                    before, looks = [], looks + 1
                    continue
                screen.show(devices, rates(before, devices, now - since))
                before, since, looks = devices, now, looks + 1


async def _first(daemon: Client) -> list[DeviceView]:
    try:
        return await daemon.devices()
    except NotRunningError:
        return []  # the next look reports it


class _Screen:
    """At a terminal a table that is redrawn; else one table after the other, or one line of JSON each."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self._live: Any = None
        self._console = None if json else console()

    def __enter__(self) -> _Screen:
        if self._console is not None and self._console.is_terminal:
            self._live = need("rich.live").Live(console=self._console, screen=True, auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._live is not None:
            self._live.__exit__(*failure)

    def tell(self, text: str) -> None:
        """Shows a text instead of a table."""
        if self._console is None:
            print_json([])
        elif self._live is not None:
            self._live.update(styled(text, "bold red"), refresh=True)
        else:
            self._console.print(styled(text, "bold red"))

    def show(self, devices: Sequence[DeviceView], found: Sequence[Rates]) -> None:
        if self._console is None:
            print_json(found)
        elif self._live is not None:
            self._live.update(drawing(devices, found), refresh=True)
        else:
            self._console.print(drawing(devices, found))


def rates(before: Sequence[DeviceView], after: Sequence[DeviceView], seconds: float) -> list[Rates]:
    """Rates, the busiest device first. A new device has none yet."""
    known = {device.name: device.statistics for device in before}
    found = [_rates(device, known.get(device.name, device.statistics), seconds) for device in after]
    return sorted(found, key=lambda each: (-(each.reads + each.writes + each.others), each.name))


def _rates(device: DeviceView, before: Snapshot, seconds: float) -> Rates:
    earlier = {each.opcode: each for each in before.opcodes}
    counts, moved = {"read": 0, "write": 0, "other": 0}, {"read": 0, "write": 0, "other": 0}
    microseconds = errors = 0
    for now in device.statistics.opcodes:
        was = earlier.get(now.opcode)
        kind = "read" if now.opcode in READS else "write" if now.opcode in WRITES else "other"
        counts[kind] += now.count - (was.count if was else 0)
        moved[kind] += now.bytes - (was.bytes if was else 0)
        microseconds += now.microseconds - (was.microseconds if was else 0)
        errors += now.errors
    total = sum(counts.values())
    return Rates(
        device.name, device.state.value,
        counts["read"] / seconds, moved["read"] / seconds,
        counts["write"] / seconds, moved["write"] / seconds,
        counts["other"] / seconds, microseconds / total if total else 0.0,
        device.statistics.under_way, device.statistics.oldest, errors,
    )  # fmt: skip


def drawing(devices: Sequence[DeviceView], found: Sequence[Rates]) -> Any:
    """The screen: a line for all, then one for each device."""
    group = need("rich.console").Group
    by_name = {device.name: device for device in devices}
    commands = sum(each.reads + each.writes + each.others for each in found)
    moved = sum(each.read_bytes + each.write_bytes for each in found)
    now = time.strftime("%H:%M:%S")
    luns = "1 LUN" if len(found) == 1 else f"{len(found)} LUNs"
    heading = f"{luns}   {commands:,.0f} commands/s   {moved / 1e6:,.1f} MB/s   {now}"
    rows = [_row(by_name[each.name], each) for each in found]
    return group(styled(heading, "bold"), "", Fitting([partial(_without, each, rows) for each in NARROWER]))


def _without(left_out: Collection[int], rows: Sequence[Sequence[object]]) -> Any:
    """The table without some columns of numbers."""
    kept = [column for column in range(len(NUMBERS)) if column not in left_out]
    numbers = [NUMBERS[column] for column in kept]
    fewer = [[name, *(cells[column] for column in kept)] for name, *cells in rows]
    return table(["NAME", *numbers], fewer, right=numbers, gap=1)


def _name(device: DeviceView) -> Any:
    if device.state is not State.SERVING:
        return styled(f"{device.name} {device.state.value}", "red")
    return styled(f"{device.name} failing", "red") if device.trouble(time.time()) else device.name


def _row(device: DeviceView, each: Rates) -> list[object]:
    oldest = f"{each.oldest:.1f} s" if each.oldest >= 0.1 else "-"
    return [
        _name(device), f"{each.reads:,.0f}", f"{each.read_bytes / 1e6:,.1f}",
        f"{each.writes:,.0f}", f"{each.write_bytes / 1e6:,.1f}", f"{each.others:,.0f}",
        f"{each.mean:,.0f}" if each.mean else "-", each.queue,
        styled(oldest, "bold red") if each.oldest > 5 else oldest,
        styled(str(each.errors), "red") if each.errors else "0",
    ]  # fmt: skip
