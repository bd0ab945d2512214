"""`verify`: corruption is found, and nothing else is taken for one, whatever crashes."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from handlers.model import machine
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.clock import ManualClock
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError, ScsiError
from tcmu_runner.errors import DeviceError
from tcmu_runner.filters.checksums import MARKS_AT, REGION, SUMS_AT
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

from .power import Power, PowerCut

BLOCK = 512
SIZE = 3 * REGION
SPOTS = [0, 8, REGION // BLOCK, 2 * REGION // BLOCK + 5]
"""Blocks in each region."""


@pytest.fixture
def below(tmp_path: Path) -> Path:
    path = tmp_path / "below.img"
    path.write_bytes(bytes(SIZE))
    return path


def opened(tmp_path: Path, below: Path) -> Stacked:
    return open_stack(f"file/{below}", ("verify", {"directory": str(tmp_path)}), size=SIZE)


def sums_of(tmp_path: Path) -> Path:
    return tmp_path / "conformance.sums"


def read(disk: Stacked, block: int, count: int = 1) -> bytes:
    into = bytearray(count * BLOCK)
    disk.read([memoryview(into)], block * BLOCK)
    return bytes(into)


def write(disk: Stacked, block: int, value: int, count: int = 1) -> None:
    disk.write([memoryview(bytearray([value]) * (count * BLOCK))], block * BLOCK)


def damage(below: Path, block: int, content: bytes = b"\x99") -> None:
    with below.open("r+b") as file:
        os.pwrite(file.fileno(), content, block * BLOCK + 100)


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    report = check_filter(
        f"file/{tmp_path}/disk.img", ("verify", {"directory": str(tmp_path)}), persistent=True, size=KIT_SIZE
    )
    assert report.ok, str(report)


def test_beside_a_bytearray(tmp_path: Path) -> None:
    opens = iter(range(1000))

    def open_disk(size: int) -> Stacked:
        directory = tmp_path / f"{next(opens)}"
        directory.mkdir()
        return open_stack("ram/", ("verify", {"directory": str(directory)}), size=size)

    quick = settings(max_examples=12, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, 512), settings=quick)


def test_a_damaged_block_is_an_error_until_it_is_written(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(tmp_path, below)
    write(disk, 4, 1, 8)
    damage(below, 6)
    with pytest.raises(ScsiError) as error:
        read(disk, 4, 8)
    sense = error.value.sense
    assert (sense.key, sense.asc, sense.ascq, sense.information) == (0x3, 0x11, 0x00, 6)  # SPC-5 table 49
    assert "conformance: block 6 differs from what was written" in caplog.text
    caplog.clear()
    assert read(disk, 4, 2) + read(disk, 7, 5) == bytes([1]) * (7 * BLOCK)
    write(disk, 6, 2)
    assert read(disk, 6) == bytes([2]) * BLOCK
    disk.close()


def test_a_block_in_the_place_of_another_is_an_error(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(tmp_path, below)
    write(disk, 4, 1)
    write(disk, 5, 2)
    with below.open("r+b") as file:
        os.pwrite(file.fileno(), bytes([1]) * BLOCK, 5 * BLOCK)
    assert read(disk, 4) == bytes([1]) * BLOCK
    with pytest.raises(ScsiError):
        read(disk, 5)
    caplog.clear()
    disk.close()


def test_sums_of_what_was_flushed_outlive_the_disk(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(tmp_path, below)
    write(disk, 4, 1)
    disk.flush()
    disk.close()
    damage(below, 4)
    disk = opened(tmp_path, below)
    with pytest.raises(ScsiError):
        read(disk, 4)
    caplog.clear()
    disk.close()


def test_what_was_there_before_is_taken_as_it_is_and_kept_from_then_on(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(below, 9)
    disk = opened(tmp_path, below)
    first = read(disk, 9)
    assert first == read(disk, 9) != bytes(BLOCK)
    damage(below, 9, b"\x98")
    with pytest.raises(ScsiError):
        read(disk, 9)
    caplog.clear()
    disk.unmap(9 * BLOCK, BLOCK)
    assert read(disk, 9) == bytes(BLOCK)
    disk.close()


def test_a_write_that_failed_leaves_what_it_leaves(tmp_path: Path, below: Path) -> None:
    torn = ("error", {"rules": [{"on": "write", "nth": 2, "times": 1, "errno": "EIO", "done": BLOCK}]})
    disk = open_stack(f"file/{below}", ("verify", {"directory": str(tmp_path)}), torn, size=SIZE)
    write(disk, 0, 1, 2)
    with pytest.raises(OSError):
        write(disk, 0, 2, 2)
    assert read(disk, 0, 2) == bytes([2]) * BLOCK + bytes([1]) * BLOCK
    disk.close()


def test_readers_beside_writers_see_no_error(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    failures: list[BaseException] = []

    def load(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(300):
                block, count = chance.randrange(16), chance.randint(1, 8)
                if chance.random() < 0.5:
                    write(disk, block, chance.randrange(256), count)
                else:
                    read(disk, block, count)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.close()
    assert failures == []


# -- crashes -------------------------------------------------------------------------------------------


def test_a_killed_process_leaves_no_false_alarm(tmp_path: Path, below: Path) -> None:
    for seed in range(5):
        child = os.fork()
        if child == 0:
            disk = opened(tmp_path, below)
            chance = random.Random(seed)
            threading.Timer(0.05 + seed / 50, os.kill, [os.getpid(), signal.SIGKILL]).start()
            while True:
                write(disk, chance.randrange(SIZE // BLOCK - 8), chance.randrange(256), chance.randint(1, 8))
                if chance.random() < 0.1:
                    disk.flush()
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        disk = opened(tmp_path, below)
        read(disk, 0, SIZE // BLOCK)
        disk.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_power_loss_leaves_no_false_alarm(
    tmp_path: Path, below: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of the data and of the sums was stored is left to chance, except for what was flushed."""
    chance = random.Random(seed)
    data = [(block * BLOCK, BLOCK) for block in SPOTS]
    sums = [(0, 512), (MARKS_AT, 512), *((SUMS_AT + 4 * block // 512 * 512, 512) for block in SPOTS)]
    power = Power({below: data, sums_of(tmp_path): sums}, chance, monkeypatch)
    for _ in range(6):
        disk = opened(tmp_path, below)
        for block in SPOTS:
            read(disk, block)
        power.settle()
        power.cut_after(chance.randint(1, 30))
        with suppress(PowerCut):
            for _ in range(chance.randrange(60)):
                step(disk, chance)
        power.cut_after(0)
        with suppress(PowerCut):
            disk.close()
        power.lose()
    disk = opened(tmp_path, below)
    for block in SPOTS:
        read(disk, block)
    disk.close()


def step(disk: Stacked, chance: random.Random) -> None:
    block = chance.choice(SPOTS)
    match chance.choice(["write", "write", "read", "flush", "unmap", "durable"]):
        case "write":
            write(disk, block, chance.randrange(256))
        case "durable":
            disk.write_durable([memoryview(bytearray([chance.randrange(256)]) * BLOCK)], block * BLOCK)
        case "read":
            read(disk, block)
        case "unmap":
            disk.unmap(block * BLOCK, BLOCK)
        case _:
            disk.flush()


# -- refusals -------------------------------------------------------------------------------------------


def test_refusals(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    with pytest.raises(DeviceError, match="in use by another process"):
        open_stack("ram/", ("verify", {"directory": str(tmp_path)}), size=SIZE, clock=ManualClock())
    disk.close()
    with pytest.raises(ConfigError, match="blocks of 512 bytes instead of 4096"):
        open_stack(f"file/{below}", ("verify", {"directory": str(tmp_path)}), size=SIZE, block_size=4096)
    sums_of(tmp_path).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="has no checksums in it: move it away"):
        opened(tmp_path, below)
    with pytest.raises(DeviceError, match="No such file or directory; correct the directory"):
        opened(tmp_path / "absent", below)
    with pytest.raises(ConfigError, match="write an absolute path"):
        open_stack("ram/", ("verify", {"directory": "here"}))


def test_flushes_side_by_side(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below)
    failures: list[BaseException] = []

    def load() -> None:
        try:
            for _ in range(100):
                write(disk, 0, 1)
                disk.flush()
                disk.flush()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.close()
    assert failures == []
