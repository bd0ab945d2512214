"""`cow`: the storage below stays as it is, what was flushed survives a power loss, and all else a kill."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from handlers.model import machine
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.clock import ManualClock
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError
from tcmu_runner.errors import DeviceError
from tcmu_runner.filters import overlay as module
from tcmu_runner.filters.cow import Cow
from tcmu_runner.filters.overlay import BLOCKS_AT, DURABLE_AT, PRESENT_AT, Overlay
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

from .power import Power, PowerCut

BLOCK = 512
SIZE = 64 * BLOCK
OLD = bytes(range(256)) * (SIZE // 256)
"""What is below."""


@pytest.fixture
def below(tmp_path: Path) -> Path:
    path = tmp_path / "below.img"
    path.write_bytes(OLD)
    return path


def opened(tmp_path: Path, below: Path) -> Stacked:
    layer = ("cow", {"directory": str(tmp_path)})
    return open_stack(f"file/{below}", layer, size=SIZE, clock=ManualClock())


def overlay_of(tmp_path: Path) -> Path:
    return tmp_path / "conformance.cow"


def read(disk: Stacked, offset: int, length: int) -> bytes:
    into = bytearray(length)
    disk.read([memoryview(into)], offset)
    return bytes(into)


def write(disk: Stacked, offset: int, content: bytes) -> None:
    disk.write([memoryview(bytearray(content))], offset)


def new(value: int, blocks: int = 1) -> bytes:
    return bytes([value]) * BLOCK * blocks


def after_power_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "boot_id", lambda: os.urandom(16))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    report = check_filter(
        f"file/{tmp_path}/disk.img", ("cow", {"directory": str(tmp_path)}), persistent=True, size=KIT_SIZE
    )
    assert report.ok, str(report)


def test_over_another_one_and_over_an_offset(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    layers: tuple[tuple[str, dict[str, object]], ...] = (
        ("cow", {"directory": f"{tmp_path}/one"}),
        ("offset", {"offset": "64K"}),
        ("cow", {"directory": f"{tmp_path}/two"}),
    )
    report = check_filter("null/", *layers, persistent=True, size=KIT_SIZE)
    assert report.ok, str(report)


@pytest.mark.parametrize("block", [512, 4096])
def test_beside_a_bytearray(tmp_path: Path, block: int) -> None:
    opens = iter(range(1000))

    def open_disk(size: int) -> Stacked:
        directory = tmp_path / f"{next(opens)}"
        directory.mkdir()
        layer = ("cow", {"directory": str(directory)})
        return open_stack("ram/", layer, size=size, block_size=block)

    quick = settings(max_examples=12, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, block), settings=quick)


def test_what_is_below_stays_as_it_is_and_is_read_where_nothing_was_written(
    tmp_path: Path, below: Path
) -> None:
    disk = opened(tmp_path, below)
    write(disk, 8 * BLOCK, new(1, 4))
    disk.unmap(20 * BLOCK, 2 * BLOCK)
    expected = bytearray(OLD)
    expected[8 * BLOCK : 12 * BLOCK] = new(1, 4)
    expected[20 * BLOCK : 22 * BLOCK] = new(0, 2)
    assert read(disk, 0, SIZE) == expected
    disk.close()
    assert below.read_bytes() == OLD
    again = opened(tmp_path, below)
    assert read(again, 0, SIZE) == expected
    again.close()


def test_many_disks_share_what_is_below_although_it_is_read_only(tmp_path: Path, below: Path) -> None:
    disks = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        layer = ("cow", {"directory": f"{tmp_path}/{name}"})
        disks.append(open_stack(f"file/{below};read_only", layer, size=SIZE))
    write(disks[0], 0, new(1))
    assert read(disks[0], 0, BLOCK) == new(1) and read(disks[1], 0, BLOCK) == OLD[:BLOCK]
    for disk in disks:
        disk.close()


# -- crashes -------------------------------------------------------------------------------------------


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path, below: Path) -> None:
    """Acknowledged, not flushed: as with a file, whose pages outlive the process."""
    child = os.fork()
    if child == 0:
        disk = opened(tmp_path, below)
        write(disk, 4 * BLOCK, new(1, 2))
        disk.unmap(9 * BLOCK, BLOCK)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    disk = opened(tmp_path, below)
    assert read(disk, 4 * BLOCK, 2 * BLOCK) == new(1, 2)
    assert read(disk, 9 * BLOCK, BLOCK) == new(0)
    disk.close()


@pytest.mark.parametrize("seed", range(20))
def test_power_losses(tmp_path: Path, below: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is as it was flushed last, or as it was written or unmapped since. The power may go within a
    flush, too."""
    after_power_loss(monkeypatch)
    chance = random.Random(seed)
    regions = [(0, 4096), (DURABLE_AT, 4096), (PRESENT_AT, 4096), (BLOCKS_AT, SIZE)]
    power = Power({overlay_of(tmp_path): regions}, chance, monkeypatch)
    possible = [{OLD[at : at + BLOCK]} for at in range(0, SIZE, BLOCK)]
    for _ in range(4):
        disk = opened(tmp_path, below)
        power.settle()
        settle(disk, possible)
        power.cut_after(chance.randint(1, 8))
        with suppress(PowerCut):
            for _ in range(chance.randrange(20)):
                step(disk, chance, possible)
        power.cut_after(0)
        disk.close()
        power.lose()
    disk = opened(tmp_path, below)
    settle(disk, possible)
    disk.close()


def settle(disk: Stacked, possible: list[set[bytes]]) -> None:
    """What is read now is what counts from here on; reading twice tells the same."""
    for number, contents in enumerate(possible):
        found = read(disk, number * BLOCK, BLOCK)
        assert found in contents, f"block {number} is neither as it was flushed nor as it was written"
        possible[number] = {found}
    disk.flush()


def step(disk: Stacked, chance: random.Random, possible: list[set[bytes]]) -> None:
    first = chance.randrange(SIZE // BLOCK)
    count = chance.randint(1, min(8, SIZE // BLOCK - first))
    what = chance.choice(["write", "write", "durable", "unmap", "flush"])
    if what == "flush":
        disk.flush()  # a PowerCut leaves what was possible before
        for number in range(len(possible)):
            possible[number] = {read(disk, number * BLOCK, BLOCK)}
        return
    content = new(0 if what == "unmap" else chance.randint(1, 255), count)
    for number in range(first, first + count):
        possible[number] = possible[number] | {content[:BLOCK]}
    if what == "unmap":
        disk.unmap(first * BLOCK, count * BLOCK)
    elif what == "write":
        write(disk, first * BLOCK, content)
    else:
        disk.write_durable([memoryview(bytearray(content))], first * BLOCK)
        possible[first : first + count] = [{content[:BLOCK]}] * count


def test_blocks_of_a_lost_power_do_not_count(
    tmp_path: Path, below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that reached the file before their blocks would show what never was on the disk."""
    after_power_loss(monkeypatch)
    disk = opened(tmp_path, below)
    write(disk, 0, new(1))
    disk.flush()
    write(disk, BLOCK, new(2))
    disk.close()
    with overlay_of(tmp_path).open("r+b") as file:
        os.pwrite(file.fileno(), bytes(BLOCK), BLOCKS_AT + BLOCK)  # the second block was not stored
    disk = opened(tmp_path, below)
    assert read(disk, 0, 2 * BLOCK) == new(1) + OLD[BLOCK : 2 * BLOCK]
    disk.close()


# -- commit and discard ---------------------------------------------------------------------------------


def test_commit(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    write(disk, 0, new(1, 3))
    disk.unmap(BLOCK, BLOCK)
    expected = read(disk, 0, SIZE)
    disk.close()
    marked = Overlay.open(overlay_of(tmp_path), SIZE, BLOCK)
    marked.want_commit()
    marked.close()
    disk = opened(tmp_path, below)
    assert below.read_bytes() == expected
    assert read(disk, 0, SIZE) == expected
    assert not any(here for _, _, here in overlay_in(disk).runs(0, SIZE))
    disk.close()


def overlay_in(disk: Stacked) -> Overlay:
    cow = disk.stack.filters[0]
    assert isinstance(cow, Cow)
    return cow.overlay


def test_a_commit_that_fails_is_done_again(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    write(disk, 0, new(1, 3))
    expected = read(disk, 0, SIZE)
    overlay_in(disk).want_commit()
    disk.close()
    layers = ("cow", {"directory": str(tmp_path)}), ("error", {"rules": [{"on": "flush", "errno": "EIO"}]})
    with pytest.raises(OSError):
        open_stack(f"file/{below}", *layers, size=SIZE)
    disk = opened(tmp_path, below)
    assert below.read_bytes() == expected == read(disk, 0, SIZE)
    disk.close()


def test_a_commit_to_what_cannot_be_written_is_refused_and_loses_nothing(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    write(disk, 0, new(1))
    overlay_in(disk).want_commit()
    disk.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        open_stack(f"file/{below};read_only", ("cow", {"directory": str(tmp_path)}), size=SIZE)
    disk = opened(tmp_path, below)
    assert below.read_bytes()[:BLOCK] == new(1)
    disk.close()


def test_discard(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    write(disk, 0, new(1, 3))
    disk.flush()
    overlay_in(disk).discard()
    assert read(disk, 0, SIZE) == OLD
    disk.close()
    disk = opened(tmp_path, below)
    assert read(disk, 0, SIZE) == OLD
    disk.close()


# -- refusals -------------------------------------------------------------------------------------------


def test_refusals(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    with pytest.raises(DeviceError, match="in use by another process"):
        opened(tmp_path, below)
    disk.close()
    with pytest.raises(ConfigError, match="blocks of 512 bytes, not 4096"):
        open_stack(f"file/{below}", ("cow", {"directory": str(tmp_path)}), size=SIZE, block_size=4096)
    overlay_of(tmp_path).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is no overlay: move it away"):
        opened(tmp_path, below)
    with pytest.raises(DeviceError, match="No such file or directory; correct the directory"):
        opened(tmp_path / "absent", below)
    with pytest.raises(ConfigError, match="write an absolute path"):
        open_stack("ram/", ("cow", {"directory": "here"}))
