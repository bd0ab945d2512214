from __future__ import annotations

import errno
import itertools
import logging
import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from support.kit import KIT_SIZE

from handlers.model import machine, pieces
from tcmu_runner import ConfigError, Device, Extent
from tcmu_runner.handlers import claims
from tcmu_runner.handlers.zstd import ZstdHandler, store
from tcmu_runner.handlers.zstd.handler import ZstdOptions, _runs
from tcmu_runner.iov import gather
from tcmu_runner.testing.conformance import check_class, check_handler, device

SIZE = 4 << 20
TEXT = b"some text that compresses well, "


def opened(path: Path, options: str = "", size: int = SIZE) -> ZstdHandler:
    return ZstdHandler.open(Device("vol", size), ZstdHandler.parse(f"{path}{options}"))


def write(disk: ZstdHandler, offset: int, data: bytes) -> None:
    disk.write([memoryview(bytearray(data))], offset)


def read(disk: ZstdHandler, offset: int, length: int) -> bytes:
    into = bytearray(length)
    disk.read([memoryview(into)], offset)
    return bytes(into)


@pytest.mark.parametrize("options", ["", ";chunk=4K;level=3", ";chunk=128K"])
def test_it_keeps_the_contract(options: str, tmp_path: Path) -> None:
    report = check_class(ZstdHandler, f"{tmp_path}/disk.zdb{options}", persistent=True, size=KIT_SIZE)
    assert report.ok, str(report)


def test_it_keeps_the_contract_with_large_blocks(tmp_path: Path) -> None:
    report = check_class(ZstdHandler, f"{tmp_path}/disk.zdb", persistent=True, block_size=4096, size=KIT_SIZE)
    assert report.ok, str(report)


def test_a_storage_that_fails_is_told_truthfully(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> ZstdHandler:
        disk = ZstdHandler.open(device(KIT_SIZE), ZstdOptions(f"{tmp_path}/failing.zdb"))
        disk._store._database.close()
        return disk

    report = check_handler(
        lambda: ZstdHandler.open(device(KIT_SIZE), ZstdOptions(f"{tmp_path}/disk.zdb")),
        open_failing=failing,
        size=KIT_SIZE,
    )
    assert report.ok, str(report)


@pytest.mark.parametrize(("block_size", "chunk"), [(512, 4096), (512, 16384), (4096, 8192)])
def test_beside_a_bytearray(tmp_path: Path, block_size: int, chunk: int) -> None:
    numbers = itertools.count()

    def open_disk(size: int) -> ZstdHandler:
        options = ZstdOptions(f"{tmp_path}/{next(numbers)}.zdb", chunk)
        return ZstdHandler.open(Device("model", size, block_size), options)

    quick = settings(max_examples=15, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, block_size, forgets=False), settings=quick)


def test_writers_of_one_chunk_side_by_side(tmp_path: Path) -> None:
    """Each block is written by one thread; all are in the same few chunks."""
    disk = opened(tmp_path / "disk.zdb")

    def go(number: int) -> None:
        for turn in range(20):
            for block in range(number, 128, 4):
                write(disk, block * 512, bytes([number, turn]) * 256)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(disk, 0, 65536) == b"".join(bytes([block % 4, 19]) * 256 for block in range(128))
    disk.close()


def test_large_and_small_ranges_side_by_side(tmp_path: Path) -> None:
    """Ranges that share locks in another order would wait for each other for ever."""
    disk = opened(tmp_path / "disk.zdb", ";chunk=4K")

    def go(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(30):
            offset = dice.randrange(0, SIZE // 512) * 512
            length = min(dice.choice([512, 8192, 1 << 20]), SIZE - offset)
            if dice.random() < 0.5:
                write(disk, offset, TEXT * (length // 32))
            else:
                disk.unmap(offset, length)

    threads = [threading.Thread(target=go, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    disk.close()


def test_buffers_of_all_lengths(tmp_path: Path) -> None:
    disk = opened(tmp_path / "disk.zdb")
    data = random.Random(1).randbytes(70000 // 512 * 512)
    disk.write(pieces(data, [1, 700, 16384, 40001]), 1024)
    into = pieces(bytes(len(data)), [3, 511, 33000])
    disk.read(into, 1024)
    assert gather(into) == data
    disk.close()


def test_it_is_small_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "disk.zdb"
    disk = opened(path)
    write(disk, 0, TEXT * (SIZE // 64))
    with caplog.at_level(logging.INFO):
        disk.close()
    assert path.stat().st_size < SIZE // 8
    assert "vol: 2 MiB of data in " in caplog.text and " to 1" in caplog.text


def test_zeroes_take_no_space(tmp_path: Path) -> None:
    disk = opened(tmp_path / "disk.zdb")
    write(disk, 0, TEXT * 1024)
    write(disk, 0, bytes(1 << 20))
    assert list(disk.extents(0, SIZE)) == [Extent(0, SIZE, mapped=False)]
    disk.close()


def test_what_is_unmapped_goes_back_to_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    disk = opened(path, size=64 << 20)
    noise = random.Random(1).randbytes(1 << 20)
    for at in range(0, 32 << 20, 1 << 20):
        write(disk, at, noise)
    assert disk.space().used > 32 << 20
    disk.unmap(1 << 20, 63 << 20)
    assert disk.space().used < 2 << 20
    assert path.stat().st_size < 8 << 20  # some is kept for the next writes
    assert read(disk, 0, 1 << 20) == noise
    disk.close()


def test_parts_of_chunks_that_are_unmapped_become_zeroes(tmp_path: Path) -> None:
    disk = opened(tmp_path / "disk.zdb")
    write(disk, 0, b"\xff" * 49152)
    disk.unmap(512, 32768)
    assert read(disk, 0, 49152) == b"\xff" * 512 + bytes(32768) + b"\xff" * (49152 - 33280)
    assert [extent.mapped for extent in disk.extents(0, 49152)] == [True, False, True]
    disk.close()


def test_a_smaller_disk_forgets_what_is_cut_off(tmp_path: Path) -> None:
    disk = opened(tmp_path / "disk.zdb")
    write(disk, 0, b"\xff" * SIZE)
    disk.resize(512)
    disk.resize(SIZE)
    assert read(disk, 0, SIZE) == b"\xff" * 512 + bytes(SIZE - 512)
    disk.close()


def test_a_full_file_system_is_said_and_unmap_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = opened(tmp_path / "disk.zdb")
    write(disk, 0, TEXT * 1024)
    monkeypatch.setattr(store.Store, "available", store.RESERVE - 1)
    with pytest.raises(OSError) as error:
        write(disk, 0, b"x" * 512)
    assert error.value.errno == errno.ENOSPC
    disk.unmap(16384, 16384)
    assert read(disk, 0, 32768) == TEXT * 512 + bytes(16384)
    disk.close()


def test_the_chunk_size_is_that_of_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    disk = opened(path, ";chunk=64K")
    write(disk, 0, TEXT * 16)
    disk.close()
    with pytest.raises(ConfigError, match="was made with chunk=65536: leave the option chunk out"):
        opened(path, ";chunk=16K")
    for options in ("", ";chunk=64K"):
        disk = opened(path, options)
        assert read(disk, 0, 512) == TEXT * 16
        disk.close()


@pytest.mark.parametrize(
    ("value", "error", "why"),
    [
        (1 << 40, ConfigError, "says chunk=1099511627776"),  # memory for zeroes
        (0, ConfigError, "says chunk=0"),
        (5000, ConfigError, "says chunk=5000"),
        ("many", OSError, "its setting chunk is no number"),
    ],
)
def test_a_chunk_size_that_no_disk_has(
    tmp_path: Path, value: object, error: type[Exception], why: str
) -> None:
    path = tmp_path / "disk.zdb"
    opened(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE settings SET value = ? WHERE name = 'chunk'", (value,))
    with pytest.raises(error, match=why):
        opened(path)


def test_a_frame_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.zdb"
    opened(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO chunks VALUES (0, zeroblob(?))", (16 << 20,))
    disk = opened(path)
    with pytest.raises(OSError, match="too big") as raised:
        read(disk, 0, 512)
    assert raised.value.errno == errno.EIO
    disk.close()


@given(st.sets(st.integers(0, 30)))
def test_runs(numbers: set[int]) -> None:
    found = list(_runs(sorted(numbers)))
    assert {number for first, last in found for number in range(first, last + 1)} == numbers
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ("relative", "write zstd//srv/disk.zdb"),
        ("/a/", "write zstd//srv/disk.zdb"),
        ("/a;chunk=5000", "write 4K, 8K, 16K"),
        ("/a;chunk=2M", "write 4K, 8K, 16K"),
        ("/a;level=20", "from 1 .fast. to 19"),
        ("/a;lvl=2", "known options: chunk, level"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        ZstdHandler.parse(config)


def test_places_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing does not exist: create it"):
        opened(tmp_path / "missing" / "disk.zdb")
    with pytest.raises(OSError, match="is no file"):
        opened(tmp_path)


def test_without_its_library_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcmu_runner.handlers.zstd.codec.zstandard", None)
    with pytest.raises(ConfigError, match="needs the package zstandard"):
        opened(tmp_path / "disk.zdb")
    assert not (tmp_path / "disk.zdb").exists()


def test_one_lun_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a disk says which it is, wherever its file goes."""
    path = tmp_path / "a.zdb"
    first = ZstdHandler.open(Device("user_0/a", 1 << 20), ZstdHandler.parse(str(path)))
    (entry := tmp_path / "uio" / "uio0").mkdir(parents=True)
    (entry / "name").write_text(f"tcm-user/0/a/zstd/{path}\n")
    monkeypatch.setattr(claims, "UIO", tmp_path / "uio")
    with pytest.raises(
        OSError, match=r"a\.zdb is in use by user_0/a, .*: remove that one, or name another st"
    ):
        ZstdHandler.open(Device("user_0/b", 1 << 20), ZstdHandler.parse(str(path)))
    identity = first.identity()
    first.close()
    path.rename(tmp_path / "b.zdb")
    again = ZstdHandler.open(Device("user_0/a", 1 << 20), ZstdHandler.parse(f"{tmp_path}/b.zdb"))
    other = ZstdHandler.open(Device("user_0/c", 1 << 20), ZstdHandler.parse(f"{tmp_path}/c.zdb"))
    assert again.identity() == identity != other.identity()
    again.close()
    other.close()
