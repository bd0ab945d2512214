"""`top`: rates between two looks."""

import io
import json
from dataclasses import replace

import pytest
from dbus.shelf import Shelf, a_device
from rich.console import Console

from tcmu_runner.cli.top import drawing, rates
from tcmu_runner.engine.observe.statistics import OpcodeStatistics, Snapshot

from .conftest import Command, put

NOTHING = (0,) * 28


def snapshot(reads: int, writes: int, flushes: int) -> Snapshot:
    """Each read and write is of 4 KiB and takes 100 us; each flush takes 300 us, and fails."""
    return Snapshot(2, 0.0, (
        OpcodeStatistics(0x28, reads, reads * 4096, 0, reads * 100, NOTHING),
        OpcodeStatistics(0x8A, writes, writes * 4096, 0, writes * 100, NOTHING),
        OpcodeStatistics(0x35, flushes, 0, flushes, flushes * 300, NOTHING),
    ), {})  # fmt: skip


def test_rates_are_of_the_time_between_the_looks() -> None:
    before = replace(a_device(), statistics=snapshot(100, 50, 0))
    after = replace(a_device(), statistics=snapshot(300, 150, 100))
    (found,) = rates([before], [after], 2.0)
    assert (found.reads, found.read_bytes) == (100, 100 * 4096)
    assert (found.writes, found.write_bytes) == (50, 50 * 4096)
    assert (found.others, found.mean, found.queue, found.errors) == (50, 150, 2, 100)


def test_the_busiest_comes_first_and_a_new_one_has_no_rates_yet() -> None:
    idle, busy = a_device("user_0/a"), a_device("user_0/b")
    more = replace(busy, statistics=snapshot(1000, 0, 0))
    found = rates(
        [idle, replace(busy, statistics=snapshot(0, 0, 0))], [idle, more, a_device("user_0/c")], 1.0
    )
    assert [(each.name, each.reads) for each in found] == [
        ("user_0/b", 1000),
        ("user_0/a", 0),
        ("user_0/c", 0),
    ]


def test_looks_without_a_terminal(daemon: Shelf, command: Command) -> None:
    put(daemon, a_device())
    status, text, _ = command("top", "--count", "1", "--interval", "0")
    assert status == 0
    assert text.startswith("1 LUN   0 commands/s   0.0 MB/s   ")
    words = ["user_0/vol0", "0", "0.0", "0", "0.0", "0", "-", "3", "1.5", "s", "2"]
    assert text.splitlines()[-1].split() == words
    (found,) = json.loads(command("top", "--count", "1", "--interval", "0", "--json")[1])
    assert (found["name"], found["queue"], found["errors"]) == ("user_0/vol0", 3, 2)


@pytest.mark.parametrize("width", [100, 80, 60, 48])
def test_a_small_terminal_shows_fewer_numbers_and_folds_none(width: int) -> None:
    devices = [a_device("user_0/database"), a_device("user_12/vol0")]
    screen = Console(width=width, file=io.StringIO())
    screen.print(drawing(devices, rates(devices, devices, 1.0)))
    assert isinstance(screen.file, io.StringIO)
    heading, _, columns, *lines = screen.file.getvalue().splitlines()
    assert heading.startswith("2 LUNs")
    assert ("OTHER/s" in columns, "OLDEST" in columns, "READ/s" in columns) == (
        width >= 80, width >= 80, True,
    )  # fmt: skip
    assert [line.split()[0] for line in lines] == ["user_0/database", "user_12/vol0"]
    assert all(line.rstrip().endswith("2") for line in lines)  # errors
