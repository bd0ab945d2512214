"""The handler `zstd`: power losses below it, and space that a file system frees.

CI has two power losses; TCMU_TEST_POWER_LOSSES=N has more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.configfs import Backstore
from support.deadline import command
from support.disk import OpenDisk, opened
from support.filesystem import HELD_UP, mounted
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback
from support.lower_disk import LowerDisk

SIZE = 48 * MIB
SLOT = 4096
SLOTS = 600
ROUNDS = int(os.environ.get("TCMU_TEST_POWER_LOSSES", "2"))


def content(slot: int, value: int) -> bytes:
    if not value:
        return bytes(SLOT)
    return random.Random(slot << 32 | value).randbytes(SLOT // 4) * 4


@contextmanager
def served(make_backstore: MakeBackstore, loopback: Loopback, config: str) -> Iterator[OpenDisk]:
    backstore: Backstore = make_backstore(config, SIZE)
    try:
        with opened(loopback.add(backstore)) as disk:
            yield disk
    finally:
        loopback.remove()
        backstore.remove()


def test_what_was_flushed_survives_power_losses(
    make_backstore: MakeBackstore, loopback: Loopback, lower: LowerDisk, expected_log: ExpectedLog
) -> None:
    """Writes and flushes; then the disk below forgets what comes. Checkpoints are anywhere in between."""
    expected_log(HELD_UP, optional=True)
    dice = random.Random(5)
    flushed, since = [0] * SLOTS, [set[int]() for _ in range(SLOTS)]
    config = f"zstd/{lower.mountpoint}/disk.zdb"
    for turn in range(1, ROUNDS + 1):
        with served(make_backstore, loopback, config) as disk:
            value = turn * 10_000
            for _ in range(dice.randrange(600, 900)):
                value, slot = value + 1, dice.randrange(SLOTS)
                disk.write(slot * SLOT, content(slot, value))
                since[slot].add(value)
                if dice.random() < 0.02:
                    disk.flush()
                    settle(flushed, since)
            lower.lose_power()
            for _ in range(200):
                value, slot = value + 1, dice.randrange(SLOTS)
                disk.write(slot * SLOT, content(slot, value))
                since[slot].add(value)
        lower.power_up()
        with served(make_backstore, loopback, config) as disk:
            for slot in range(SLOTS):
                found = disk.read(slot * SLOT, SLOT)
                allowed = {flushed[slot], *since[slot]}
                same = [value for value in allowed if content(slot, value) == found]
                assert same, f"round {turn}, slot {slot}: {found[:16].hex()} is none of {sorted(allowed)}"
                flushed[slot] = same[0]
                since[slot].clear()


def settle(flushed: list[int], since: list[set[int]]) -> None:
    """The newest of each slot counts from now on."""
    for slot, values in enumerate(since):
        if values:
            flushed[slot] = max(values)
            values.clear()


def test_space_that_a_file_system_frees_goes_back(
    make_backstore: MakeBackstore, loopback: Loopback, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    """fstrim: UNMAP on its way from a file system to the end of the database."""
    expected_log(HELD_UP, optional=True)
    path, mountpoint = tmp_path / "disk.zdb", tmp_path / "mnt"
    disk = loopback.add(make_backstore(f"zstd/{path}", 96 * MIB))
    command("mkfs.ext4", "-q", "-F", disk)
    with mounted(disk, mountpoint):
        (mountpoint / "large").write_bytes(random.Random(1).randbytes(24 * MIB))
        command("sync", "-f", mountpoint)
        full = path.stat().st_size
        (mountpoint / "large").unlink()
        command("sync", "-f", mountpoint)
        command("fstrim", mountpoint)
        command("sync", "-f", mountpoint)
    assert full >= 20 * MIB
    assert path.stat().st_size <= full - 14 * MIB
