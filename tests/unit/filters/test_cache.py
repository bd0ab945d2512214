"""`cache`: nothing that was flushed is lost, nothing that was written by a kill, and what fails is told."""

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

from tcmu_runner import ConfigError
from tcmu_runner.errors import DeviceError
from tcmu_runner.filters import cache_file as module
from tcmu_runner.filters.cache import Cache
from tcmu_runner.filters.stats import Stats
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

from .power import Power, PowerCut

CHUNK = 4096
SIZE = 64 * CHUNK
SMALL = 8 * CHUNK
"""Of a cache that is always full."""


@pytest.fixture(params=["write-back", "write-through"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    path = tmp_path / "below.img"
    path.write_bytes(bytes(SIZE))
    return path


def layer(tmp_path: Path, mode: str, size: int = SMALL) -> tuple[str, dict[str, object]]:
    return "cache", {"directory": str(tmp_path), "size": size, "mode": mode}


def opened(tmp_path: Path, below: Path, mode: str, *others: tuple[str, dict[str, object]]) -> Stacked:
    return open_stack(f"file/{below}", layer(tmp_path, mode), *others, size=SIZE)


def read(disk: Stacked, offset: int, length: int) -> bytes:
    into = bytearray(length)
    disk.read([memoryview(into)], offset)
    return bytes(into)


def write(disk: Stacked, offset: int, content: bytes) -> None:
    disk.write([memoryview(bytearray(content))], offset)


def new(value: int, chunks: int = 1) -> bytes:
    return bytes([value]) * CHUNK * chunks


def test_it_keeps_the_contract(tmp_path: Path, mode: str) -> None:
    report = check_filter(f"file/{tmp_path}/disk.img", layer(tmp_path, mode), persistent=True, size=KIT_SIZE)
    assert report.ok, str(report)


@pytest.mark.parametrize("block", [512, 4096])
def test_beside_a_bytearray(tmp_path: Path, mode: str, block: int) -> None:
    """40 blocks, which need not be whole chunks, in a cache that is too small for them."""
    opens = iter(range(1000))

    def open_disk(size: int) -> Stacked:
        directory = tmp_path / f"{next(opens)}"
        directory.mkdir()
        cache = layer(directory, mode, 3 * CHUNK)
        return open_stack("ram/", cache, size=size, block_size=block)

    quick = settings(max_examples=12, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, block), settings=quick)


def test_what_is_in_the_cache_is_not_read_below(tmp_path: Path, below: Path, mode: str) -> None:
    disk = opened(tmp_path, below, mode, ("stats", {}))
    write(disk, 0, new(1))
    read(disk, 2 * CHUNK, CHUNK)
    for _ in range(3):
        assert read(disk, 0, CHUNK) == new(1)
        read(disk, 2 * CHUNK, CHUNK)
    below_cache = disk.stack.filters[1]
    assert isinstance(below_cache, Stats)
    assert below_cache.tallies["read"].count == 1
    disk.close()


def test_when_the_storage_below_gets_what(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below, "write-back")
    write(disk, 0, new(1))
    assert below.read_bytes()[:CHUNK] == new(0)
    disk.flush()
    assert below.read_bytes()[:CHUNK] == new(1)
    disk.write_durable([memoryview(bytearray(new(2)))], 0)
    assert below.read_bytes()[:CHUNK] == new(2) == read(disk, 0, CHUNK)
    write(disk, CHUNK, new(3))
    disk.close()
    assert below.read_bytes()[CHUNK : 2 * CHUNK] == new(3)


def test_side_by_side(tmp_path: Path, below: Path, mode: str) -> None:
    """Each thread has chunks of its own; the cache is too small for all of them."""
    disk = opened(tmp_path, below, mode)
    failures: list[BaseException] = []

    def load(number: int) -> None:
        chance, mine = random.Random(number), {}
        try:
            for _ in range(300):
                chunk = chance.randrange(16) * 4 + number
                if chance.random() < 0.5:
                    mine[chunk] = new(chance.randrange(256))
                    write(disk, chunk * CHUNK, mine[chunk])
                elif chance.random() < 0.05:
                    disk.flush()
                else:
                    assert read(disk, chunk * CHUNK, CHUNK) == mine.get(chunk, new(0))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.close()
    assert failures == []


# -- errors --------------------------------------------------------------------------------------------


def failing(**rule: object) -> tuple[str, dict[str, object]]:
    return "error", {"rules": [{"on": "write", "errno": "EIO", **rule}]}


def test_a_flush_tells_what_could_not_be_written_and_keeps_it(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below, "write-back", failing(times=2, offset=0, length=CHUNK))
    write(disk, 0, new(1))
    write(disk, 32 * CHUNK, new(2))
    for _ in range(2):
        with pytest.raises(OSError):
            disk.flush()
    assert below.read_bytes()[32 * CHUNK :][:CHUNK] == new(2), "what can be written is"
    assert read(disk, 0, CHUNK) == new(1)
    disk.flush()
    assert below.read_bytes()[:CHUNK] == new(1)
    disk.close()


def test_a_deferred_error_where_no_flush_tells(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(tmp_path, below, "write-back", failing(times=8, offset=0, length=SMALL))
    told: list[OSError] = []
    cache = disk.stack.filters[0]
    assert isinstance(cache, Cache)
    cache._device.on_write_lost = told.append
    for chunk in range(8):
        write(disk, chunk * CHUNK, new(1))
    write(disk, 16 * CHUNK, new(2))  # no chunk of a full cache can make way
    assert len(told) == 8 and read(disk, 16 * CHUNK, CHUNK) == new(2)
    assert "to the storage below: " in caplog.text
    caplog.clear()
    disk.close()
    assert below.read_bytes()[: 8 * CHUNK] == new(1, 8), "nothing was lost"


def test_a_write_through_that_failed_leaves_nothing_in_the_cache(tmp_path: Path, below: Path) -> None:
    disk = opened(tmp_path, below, "write-through", failing(nth=2, times=1, done=CHUNK // 2))
    write(disk, 0, new(1))
    with pytest.raises(OSError):
        write(disk, 0, new(2))
    assert read(disk, 0, CHUNK) == below.read_bytes()[:CHUNK]
    disk.close()


def test_what_cannot_be_written_at_the_end_is_kept_for_the_next_time(
    tmp_path: Path, below: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(tmp_path, below, "write-back", failing())
    write(disk, 0, new(1))
    disk.close()
    assert "cache not emptied: " in caplog.text
    caplog.clear()
    disk = opened(tmp_path, below, "write-back")
    assert read(disk, 0, CHUNK) == new(1)
    disk.close()
    assert below.read_bytes()[:CHUNK] == new(1)


# -- crashes -------------------------------------------------------------------------------------------


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path, below: Path, mode: str) -> None:
    child = os.fork()
    if child == 0:
        disk = opened(tmp_path, below, mode)
        for chunk in range(20):
            write(disk, chunk * CHUNK, new(chunk + 1))
        write(disk, 19 * CHUNK + 512, bytes([99]) * 512)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    disk = opened(tmp_path, below, mode)
    for chunk in range(19):
        assert read(disk, chunk * CHUNK, CHUNK) == new(chunk + 1)
    assert read(disk, 19 * CHUNK, 1024) == bytes([20]) * 512 + bytes([99]) * 512
    disk.close()


@pytest.mark.parametrize("seed", range(10))
def test_power_losses(
    tmp_path: Path, below: Path, mode: str, seed: int,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Each block is as it was flushed last, or as it was written since; the power may go within a flush."""
    monkeypatch.setattr(module, "boot_id", lambda: os.urandom(16))
    chance = random.Random(seed)
    cache = tmp_path / "conformance.cache"
    power = Power({below: [(0, SIZE)], cache: [(0, 2 * CHUNK + SMALL)]}, chance, monkeypatch)
    possible = [{new(0)[:512]} for _ in range(SIZE // 512)]
    for _ in range(4):
        disk = opened(tmp_path, below, mode)
        settle(disk, possible)
        power.settle()
        power.cut_after(chance.randint(1, 4))
        with suppress(PowerCut):
            for _ in range(chance.randrange(40)):
                step(disk, chance, possible)
        power.cut_after(1)
        with suppress(PowerCut):
            disk.close()
        power.lose()
    disk = opened(tmp_path, below, mode)
    settle(disk, possible)
    disk.close()
    assert all("its end failed" in message for message in caplog.messages)
    caplog.clear()  # those are of ends without power


def settle(disk: Stacked, possible: list[set[bytes]]) -> None:
    for number, contents in enumerate(possible):
        found = read(disk, number * 512, 512)
        assert found in contents, f"block {number} is neither as it was flushed nor as it was written"
        possible[number] = {found}
    disk.flush()


def step(disk: Stacked, chance: random.Random, possible: list[set[bytes]]) -> None:
    first = chance.randrange(SIZE // 512)
    what = chance.choice(["write", "write", "durable", "unmap", "flush"])
    count = min(chance.choice([1, 3, 8, 24]), SIZE // 512 - first)
    if what == "flush":
        disk.flush()
        for number in range(len(possible)):
            possible[number] = {read(disk, number * 512, 512)}
        return
    content = bytes([0 if what == "unmap" else chance.randint(1, 255)]) * 512
    for number in range(first, first + count):
        possible[number] = possible[number] | {content}
    if what == "unmap":
        disk.unmap(first * 512, count * 512)
    elif what == "write":
        write(disk, first * 512, content * count)
    else:
        disk.write_durable([memoryview(bytearray(content * count))], first * 512)


# -- refusals -------------------------------------------------------------------------------------------


def test_refusals(tmp_path: Path, below: Path, mode: str) -> None:
    disk = opened(tmp_path, below, mode)
    with pytest.raises(DeviceError, match="in use by another process"):
        open_stack("ram/", layer(tmp_path, mode), size=SIZE, clock=ManualClock())
    disk.close()
    (tmp_path / "conformance.cache").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is no cache: move it away"):
        opened(tmp_path, below, mode)
    with pytest.raises(DeviceError, match="No such file or directory; correct the directory"):
        opened(tmp_path / "absent", below, mode)
    with pytest.raises(ConfigError, match="write 'write-through' or 'write-back'"):
        open_stack("ram/", ("cache", {"directory": str(tmp_path), "mode": "fast"}))
    with pytest.raises(ConfigError, match="write an absolute path"):
        open_stack("ram/", ("cache", {"directory": "here"}))


@pytest.mark.parametrize("chunks", [(64,), (1 << 61,), (3, 3)], ids=["behind the end", "far", "twice"])
def test_a_table_that_no_cache_has(tmp_path: Path, below: Path, chunks: tuple[int, ...]) -> None:
    """What it holds would be written there, beside the disk."""
    opened(tmp_path, below, "write-back").close()
    words = b"".join(module.WORD.pack((chunk + 1) * 2 + 1) for chunk in chunks)
    with (tmp_path / "conformance.cache").open("r+b") as file:
        file.seek(module.TABLE_AT)
        file.write(words)
    with pytest.raises(ConfigError, match="holds a chunk twice, or one behind the end"):
        opened(tmp_path, below, "write-back")
    assert below.read_bytes() == bytes(SIZE)
