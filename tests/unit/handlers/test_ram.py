"""ram: memory that comes and goes with use."""

from __future__ import annotations

import errno
import mmap
import threading
from pathlib import Path

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handlers import ram as module
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.scsi.unit import Capabilities

MIB = 1 << 20


def disk(size: int) -> RamHandler:
    return RamHandler.open(Device("test", size), "")


def content(handler: RamHandler, offset: int, length: int) -> bytes:
    into = memoryview(bytearray(b"\xee" * length))
    handler.read([into], offset)
    return bytes(into)


def resident() -> int:
    """Bytes of this process that are in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_parse() -> None:
    assert RamHandler.parse("") == RamHandler.parse("/") == ""
    with pytest.raises(ConfigError, match="ram takes no configuration, found 'x': write ram/"):
        RamHandler.parse("x")


def test_capabilities() -> None:
    """Without `flush` there is no write cache to announce: a write is as durable as it can be."""
    assert disk(4096).capabilities() == Capabilities(
        write=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=True, atomic=True
    )


def test_reading_costs_no_memory() -> None:
    handler = disk(256 * MIB)
    before = resident()
    for at in range(0, 256 * MIB, MIB):
        assert not any(content(handler, at, 4096))
    assert resident() - before < 64 * MIB
    handler.close()


def test_unmap_gives_memory_back() -> None:
    handler = disk(64 * MIB)
    before = resident()
    handler.write([memoryview(bytearray(b"x" * 64 * MIB))], 0)
    assert resident() - before > 48 * MIB
    handler.unmap(512, 64 * MIB - 1024)
    assert resident() - before < 32 * MIB
    assert content(handler, 0, 1024) == b"x" * 512 + bytes(512)
    assert content(handler, 64 * MIB - 1024, 1024) == bytes(512) + b"x" * 512
    handler.close()


def test_a_disk_larger_than_the_memory() -> None:
    """What tells which of its blocks were written takes no memory before they are, either."""
    before = resident()
    handler = disk(1 << 40)
    handler.write([memoryview(bytearray(b"x" * 512))], (1 << 40) - 512)
    assert content(handler, (1 << 40) - 1024, 1024) == bytes(512) + b"x" * 512
    handler.unmap(0, 1 << 40)
    assert content(handler, (1 << 40) - 512, 512) == bytes(512)
    assert resident() - before < 64 * MIB
    handler.close()


def test_what_a_smaller_disk_cut_off_is_forgotten() -> None:
    handler = disk(MIB)
    handler.write([memoryview(bytearray(b"x" * MIB))], 0)
    handler.resize(512)
    handler.resize(2 * MIB)
    assert content(handler, 0, 2 * MIB) == b"x" * 512 + bytes(2 * MIB - 512)
    handler.close()


def test_resizing_does_not_disturb_commands_under_way() -> None:
    """`resize` comes on another thread than `read` and `write`."""
    handler, stop = disk(MIB), threading.Event()
    failures: list[Exception] = []

    def use() -> None:
        data = memoryview(bytearray(b"x" * 4096))
        try:
            while not stop.is_set():
                handler.write([data], 0)
                assert content(handler, 0, 4096) == data
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    for blocks in range(8, 400):
        handler.resize(blocks * 4096)
    stop.set()
    thread.join()
    assert failures == []
    handler.close()


def test_no_room_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 4096)
    handler = disk(4096)
    with pytest.raises(OSError, match="cannot move to grow, this one ends at 16 KiB: create a new one"):
        handler.resize(16384 + 512)
    assert content(handler, 0, 4096) == bytes(4096)
    handler.resize(16384)
    handler.close()


def test_where_addresses_are_scarce_a_disk_has_just_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mmap.mmap

    def scarce(fd: int, size: int, flags: int) -> mmap.mmap:
        if size > MIB:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(fd, size, flags=flags)

    monkeypatch.setattr(mmap, "mmap", scarce)
    handler = disk(MIB)
    assert content(handler, MIB - 512, 512) == bytes(512)
    handler.close()
    with pytest.raises(OSError, match="no memory for a disk of 2 MiB: set a smaller dev_size") as error:
        disk(2 * MIB)
    assert error.value.errno == errno.ENOMEM


def test_a_disk_of_eight_exbibytes() -> None:
    with pytest.raises(OSError, match="set a smaller dev_size"):
        disk((1 << 63) - 512)


def test_what_was_written_is_mapped() -> None:
    handler = RamHandler.open(Device("test", 8 * 4096, 4096), "")
    handler.write([memoryview(bytearray(8192))], 4096)
    handler.unmap(8192, 4096)
    handler.resize(10 * 4096)
    assert [tuple(extent) for extent in handler.extents(0, 10 * 4096)] == [
        (0, 4096, False),
        (4096, 4096, True),
        (8192, 8 * 4096, False),
    ]
    assert [tuple(extent) for extent in handler.extents(4096, 4096)] == [(4096, 4096, True)]
