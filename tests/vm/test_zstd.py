"""The handler `zstd`: a power loss below it, space that a file system frees, a full file system."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.configfs import Backstore
from support.deadline import command
from support.disk import read, write
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback

SIZE = 48 * MIB
SLOT = 4096
SLOTS = 600
ROUNDS = int(os.environ.get("TCMU_TEST_POWER_LOSSES", "3"))


class Flaky:
    """A file system whose disk can be told to forget whatever is written from then on, as one without power
    does: dm-flakey, drop_writes."""

    def __init__(self, directory: Path) -> None:
        image = directory / "flaky.img"
        with image.open("wb") as file:
            file.truncate(160 * MIB)
        self.loop = command("losetup", "--find", "--show", image).strip()
        self.sectors = 160 * MIB // 512
        command("modprobe", "dm-flakey")
        command("dmsetup", "create", "flaky", "--table", self._table(""))
        command("mkfs.ext4", "-q", "/dev/mapper/flaky")
        self.mountpoint = directory / "flaky"
        self.mountpoint.mkdir()
        self.mount()

    def _table(self, feature: str) -> str:
        up, down = ("0", "86400") if feature else ("86400", "0")
        return f"0 {self.sectors} flakey {self.loop} 0 {up} {down} {feature}"

    def _switch(self, feature: str) -> None:
        command("dmsetup", "suspend", "--noflush", "--nolockfs", "flaky")
        command("dmsetup", "load", "flaky", "--table", self._table(feature))
        command("dmsetup", "resume", "flaky")

    def mount(self) -> None:
        command("mount", "/dev/mapper/flaky", self.mountpoint)

    def lose_power(self) -> None:
        self._switch("1 drop_writes")

    def power_up(self) -> None:
        """What the disk has kept, as the journal makes it whole. Nobody may use it meanwhile."""
        command("umount", self.mountpoint)
        self._switch("")
        self.mount()

    def remove(self) -> None:
        command("umount", self.mountpoint)
        command("dmsetup", "remove", "--retry", "flaky")
        command("losetup", "--detach", self.loop)


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[Flaky]:
    made = Flaky(tmp_path)
    yield made
    made.remove()


def content(slot: int, value: int) -> bytes:
    if not value:
        return bytes(SLOT)
    return random.Random(slot << 32 | value).randbytes(SLOT // 4) * 4


@contextmanager
def served(make_backstore: MakeBackstore, loopback: Loopback, config: str) -> Iterator[Path]:
    backstore: Backstore = make_backstore(config, SIZE)
    try:
        yield loopback.add(backstore)
    finally:
        loopback.remove(seconds=60)
        backstore.remove(seconds=60)


@pytest.mark.timeout(600)
def test_what_was_flushed_survives_power_losses(
    make_backstore: MakeBackstore, loopback: Loopback, flaky: Flaky
) -> None:
    """Writes and flushes; then the disk below forgets what comes. Checkpoints are anywhere in between."""
    dice = random.Random(5)
    flushed, since = [0] * SLOTS, [set[int]() for _ in range(SLOTS)]
    config = f"zstd/{flaky.mountpoint}/disk.zdb"
    for turn in range(1, ROUNDS + 1):
        with served(make_backstore, loopback, config) as disk:
            value = turn * 10_000
            for _ in range(dice.randrange(600, 900)):
                value, slot = value + 1, dice.randrange(SLOTS)
                write(disk, slot * SLOT, content(slot, value))
                since[slot].add(value)
                if dice.random() < 0.02:
                    flush(disk)
                    settle(flushed, since)
            flaky.lose_power()
            for _ in range(200):
                value, slot = value + 1, dice.randrange(SLOTS)
                write(disk, slot * SLOT, content(slot, value))
                since[slot].add(value)
        flaky.power_up()
        with served(make_backstore, loopback, config) as disk:
            for slot in range(SLOTS):
                found = read(disk, slot * SLOT, SLOT)
                allowed = {flushed[slot], *since[slot]}
                same = [value for value in allowed if content(slot, value) == found]
                assert same, f"round {turn}, slot {slot}: {found[:16].hex()} is none of {sorted(allowed)}"
                flushed[slot] = same[0]
                since[slot].clear()


def flush(disk: Path) -> None:
    """SYNCHRONIZE CACHE."""
    fd = os.open(disk, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)


def settle(flushed: list[int], since: list[set[int]]) -> None:
    """The newest of each slot counts from now on."""
    for slot, values in enumerate(since):
        if values:
            flushed[slot] = max(values)
            values.clear()


def test_space_that_a_file_system_frees_goes_back(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """fstrim: UNMAP on its way from a file system to the end of the database."""
    path, mountpoint = tmp_path / "disk.zdb", tmp_path / "mnt"
    mountpoint.mkdir()
    disk = loopback.add(make_backstore(f"zstd/{path}", 96 * MIB))
    command("mkfs.ext4", "-q", "-F", disk)
    command("mount", disk, mountpoint)
    try:
        (mountpoint / "large").write_bytes(random.Random(1).randbytes(24 * MIB))
        command("sync", "-f", mountpoint, seconds=120)
        full = path.stat().st_size
        (mountpoint / "large").unlink()
        command("sync", "-f", mountpoint)
        command("fstrim", mountpoint, seconds=120)
        command("sync", "-f", mountpoint)
    finally:
        command("umount", mountpoint)
    assert full >= 20 * MIB
    assert path.stat().st_size <= full - 14 * MIB
