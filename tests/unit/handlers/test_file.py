"""file: what its I/O does at the edges; that it stores the right bytes is the models' business."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handlers import file as module
from tcmu_runner.handlers.backing import aligned_memory
from tcmu_runner.handlers.file import FileHandler, FileOptions
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities

KIB = 1 << 10
EVERYTHING = Capabilities(
    write=True, flush=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=True, space=True
)


def disk(
    path: Path, size: int = 64 * KIB, block_size: int = 512, *, direct: bool = False, read_only: bool = False
) -> FileHandler:
    options = FileOptions(str(path), direct=direct, read_only=read_only)
    return FileHandler.open(Device("test", size, block_size), options)


def buffers(*pieces: bytes) -> Buffers:
    return [memoryview(bytearray(piece)) for piece in pieces]


def pattern(size: int) -> bytes:
    return (bytes(range(1, 256)) * (size // 255 + 1))[:size]


def content(handler: FileHandler, offset: int, length: int) -> bytes:
    into = buffers(b"\xee" * length)
    handler.read(into, offset)
    return iov.gather(into)


# -- config --------------------------------------------------------------------------------------------


def test_parse() -> None:
    assert FileHandler.parse("/srv/a;direct;read_only") == FileOptions("/srv/a", direct=True, read_only=True)
    assert FileHandler.parse("/srv/a;read-only=0") == FileOptions("/srv/a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("srv/a", "path 'srv/a' is not absolute: write file//srv/disk.img, with two slashes"),
        ("", "path '' is not absolute"),
        ("/srv/", "path '/srv/' is a directory: name a file in it"),
        ("/srv/a;sync", "unknown option 'sync'; known options: direct, read_only"),
        ("/srv/a;direct=x", "write direct=1 or direct=0"),
    ],
)
def test_parse_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        FileHandler.parse(text)
    assert message in str(error.value)


def test_it_describes_every_option() -> None:
    text = FileHandler.describe()
    assert text.startswith("file//") and text.endswith("\n")
    for option in FileOptions.__dataclass_fields__:
        assert option in text.lower()


# -- what it can do ------------------------------------------------------------------------------------


def test_capabilities_of_a_file(tmp_path: Path) -> None:
    assert disk(tmp_path / "a").capabilities() == EVERYTHING


def test_space(tmp_path: Path) -> None:
    """What stat(1) and df(1) say, and UNMAP gives back."""
    file = disk(tmp_path / "a")
    before = file.space()
    file.write([memoryview(b"x" * 65536)], 0)
    file.flush()
    used, available = file.space()
    assert used >= before.used + 65536
    status = os.statvfs(tmp_path)
    assert abs(available - status.f_bavail * status.f_frsize) < 1 << 30  # others write there, too
    file.unmap(0, 65536)
    assert file.space().used < used


def test_capabilities_of_a_read_only_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(64 * KIB))
    assert disk(tmp_path / "a", read_only=True).capabilities() == Capabilities(extents=True)


def test_capabilities_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and NFS before 4.2 cannot punch; zeroes are written then, and nothing else is announced."""
    monkeypatch.setattr("tcmu_runner.handlers.backing.fallocate", failing(errno.EOPNOTSUPP))
    assert disk(tmp_path / "a").capabilities() == Capabilities(
        write=True, flush=True, write_zeroes=True, extents=True
    )


def test_capabilities_of_a_block_device(loop_device: Path) -> None:
    handler = disk(loop_device)
    assert handler.capabilities() == Capabilities(
        write=True, flush=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=False
    )
    handler.close()


def failing(code: int) -> Callable[..., NoReturn]:
    """A system call that fails with this errno."""

    def fail(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


# -- reading and writing -------------------------------------------------------------------------------


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    """IOV_MAX is 1024 on Linux; the kernel gives a command as many buffers as its data lies in pieces."""
    handler = disk(tmp_path / "a", 2 << 20)
    data = pattern(1500 * 512)
    handler.write(buffers(*(data[at : at + 512] for at in range(0, len(data), 512))), 512)
    into = buffers(*[bytes(512)] * 1500)
    handler.read(into, 512)
    assert iov.gather(into) == data == content(handler, 512, len(data))
    assert content(handler, 0, 512) == bytes(512)


def test_behind_the_end_of_the_file_are_zeroes(tmp_path: Path) -> None:
    """As in the C daemon: someone cut the file while it was served."""
    handler = disk(tmp_path / "a")
    handler.write(buffers(pattern(4 * KIB)), 0)
    os.truncate(tmp_path / "a", 1000)
    assert content(handler, 0, 4 * KIB) == pattern(1000) + bytes(4 * KIB - 1000)
    into = buffers(b"\xee" * 700, b"\xee" * 700, b"\xee" * 648)
    handler.read(into, 512)
    assert iov.gather(into) == pattern(1000)[512:] + bytes(2048 - 488)
    assert content(handler, 32 * KIB, 512) == bytes(512)


def test_behind_the_end_of_the_file_without_page_cache(on_disk: Path) -> None:
    handler = disk(on_disk / "a", direct=True)
    handler.write([aligned_memory(4 * KIB)], 0)
    os.truncate(on_disk / "a", 1000)
    into = [aligned_memory(4 * KIB)]
    into[0][:] = b"\xee" * 4096
    handler.read(into, 0)
    assert iov.gather(into) == bytes(4 * KIB)
    assert content(handler, 512, 1 * KIB) == bytes(1 * KIB)


Call = Callable[..., int]


def interrupted(call: Call, at_most: int) -> Call:
    """A system call that moves few bytes, as it may where a signal or a full disk comes between."""

    def few(fd: int, data: Buffers, offset: int, *flags: int) -> int:
        return call(fd, iov.cut(data, 0, at_most), offset, *flags)

    return few


@pytest.mark.parametrize("count", [1, 3])
def test_short_reads_and_writes_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(os, "preadv", interrupted(os.preadv, 700))
    monkeypatch.setattr(os, "pwritev", interrupted(os.pwritev, 300))
    handler = disk(tmp_path / "a")
    data = pattern(2048 * count)
    pieces = [data[at : at + 2048] for at in range(0, len(data), 2048)]
    handler.write(buffers(*pieces), 512)
    handler.write_durable(buffers(*pieces), 16 * KIB)
    for offset in (512, 16 * KIB):
        into = buffers(*[b"\xee" * 2048] * count)
        handler.read(into, offset)
        assert iov.gather(into) == data


def test_a_write_that_stops_short_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(OSError) as error:
        disk(tmp_path / "a").write(buffers(bytes(512), bytes(512)), 0)
    assert error.value.errno == errno.ENOSPC


def test_a_write_beyond_a_block_device_fails(loop_device: Path) -> None:
    handler = disk(loop_device)
    with pytest.raises(OSError) as error:
        handler.write(buffers(bytes(1024)), (4 << 20) - 512)
    assert error.value.errno == errno.ENOSPC
    handler.close()


def test_durable_writes_say_so_to_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[tuple[int, ...]] = []

    def spy(fd: int, data: Buffers, offset: int, *given: int) -> int:
        flags.append(given)
        return real(fd, data, offset, *given)

    real = os.pwritev
    handler = disk(tmp_path / "a")
    monkeypatch.setattr(os, "pwritev", spy)
    handler.write(buffers(bytes(512)), 0)
    handler.write_durable(buffers(bytes(512)), 0)
    handler.write_durable(buffers(bytes(512), bytes(512)), 0)
    assert flags == [(), (os.RWF_DSYNC,), (os.RWF_DSYNC,)]


def test_flush_is_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    handler = disk(tmp_path / "a")
    handler.flush()
    assert synced == [handler.fd]


# -- without page cache --------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1, 64, 511])
def test_direct_io_with_memory_that_is_not_aligned(on_disk: Path, start: int) -> None:
    """The core's own buffers (WRITE SAME, the tail of an odd READ) lie anywhere: EINVAL to O_DIRECT."""
    handler = disk(on_disk / "a", direct=True)
    data = pattern(8 * KIB)
    memory = aligned_memory(16 * KIB)
    memory[start : start + len(data)] = data
    handler.write([memory[start : start + len(data)]], 4 * KIB)
    into = aligned_memory(16 * KIB)[start : start + len(data)]
    handler.read([into], 4 * KIB)
    assert into == data
    handler.write_durable(buffers(data[:700], data[700:1024]), 512)
    assert content(handler, 512, 1024) == data[:1024]


def test_direct_io_with_an_empty_buffer_among_aligned_ones(on_disk: Path) -> None:
    handler = disk(on_disk / "a", direct=True)
    memory = aligned_memory(4 * KIB)
    memory[:] = data = pattern(4 * KIB)
    empty = memoryview(bytearray())
    handler.write([memory, empty], 0)
    handler.write([empty, memory], 4 * KIB)
    for offset in (0, 4 * KIB):
        memory[:] = bytes(4 * KIB)
        handler.read([empty, memory, empty], offset)
        assert memory == data
    handler.close()


def test_direct_io_leaves_the_data_of_a_write_alone(on_disk: Path) -> None:
    handler = disk(on_disk / "a", direct=True)
    handler.write([memoryview(pattern(1024))], 0)  # of read-only memory
    assert content(handler, 0, 1024) == pattern(1024)


def test_direct_io_in_aligned_memory_of_odd_lengths(on_disk: Path) -> None:
    handler = disk(on_disk / "a", direct=True)
    one, other = aligned_memory(4096), aligned_memory(4096)
    one[:], other[:] = pattern(4096), pattern(4096)
    handler.write([one[:100], other[:412]], 0)
    assert content(handler, 0, 512) == pattern(100) + pattern(412)


# -- what is in the page cache -------------------------------------------------------------------------


def test_read_now_fills_every_byte_or_says_no(on_disk: Path) -> None:
    handler = disk(on_disk / "a")
    handler.write(buffers(pattern(8 * KIB)), 0)
    into = buffers(bytes(3000), bytes(1096))
    assert handler.read_now(into, 512)
    assert iov.gather(into) == pattern(8 * KIB)[512:4608]


def test_read_now_at_the_end_of_the_file(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a")
    handler.write(buffers(pattern(8 * KIB)), 0)
    os.truncate(tmp_path / "a", 1000)
    assert not handler.read_now(buffers(bytes(1024)), 512)
    assert not handler.read_now(buffers(bytes(1024)), 32 * KIB)


def test_read_now_with_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a", 2 << 20)
    assert not handler.read_now(buffers(*[bytes(512)] * 1500), 0)


def test_read_now_does_not_wait_for_a_direct_read(on_disk: Path) -> None:
    handler = disk(on_disk / "a", direct=True)
    assert not handler.read_now([aligned_memory(4096)], 0)


@pytest.mark.parametrize(
    ("code", "again"),
    [(errno.EAGAIN, True), (errno.EIO, True), (errno.EOPNOTSUPP, False)],
)
def test_read_now_gives_up_only_where_the_file_system_cannot(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch, code: int, again: bool
) -> None:
    """A page that is not there, or a broken sector, says nothing of the next one."""

    handler = disk(on_disk / "a")
    handler.write(buffers(pattern(512)), 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(code))
        assert not handler.read_now(buffers(bytes(512)), 0)
    assert handler.read_now(buffers(bytes(512)), 0) is again


# -- holes ---------------------------------------------------------------------------------------------


def used(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_unmap_gives_the_space_back(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a", 1 << 20)
    handler.write(buffers(pattern(1 << 20)), 0)
    handler.flush()
    before = used(tmp_path / "a")
    handler.unmap(4 * KIB, 512 * KIB)
    assert used(tmp_path / "a") <= before - 512 * KIB
    assert (tmp_path / "a").stat().st_size == 1 << 20
    assert content(handler, 0, 8 * KIB) == pattern(4 * KIB) + bytes(4 * KIB)


def test_zeroes_with_unmap_give_the_space_back(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a", 1 << 20)
    handler.write(buffers(pattern(1 << 20)), 0)
    handler.flush()
    handler.write_zeroes(0, 1 << 20, unmap=True)
    assert used(tmp_path / "a") < 64 * KIB


def test_zeroes_without_unmap_keep_it(on_disk: Path) -> None:
    handler = disk(on_disk / "a", 1 << 20)
    handler.write(buffers(pattern(1 << 20)), 0)
    handler.write_zeroes(0, 1 << 20, unmap=False)
    handler.flush()
    assert used(on_disk / "a") >= 1 << 20
    assert content(handler, 0, 1 << 20) == bytes(1 << 20)


def test_zeroes_on_tmpfs(tmpfs: Path) -> None:
    handler = disk(tmpfs / "a")
    handler.write(buffers(pattern(64 * KIB)), 0)
    handler.write_zeroes(512, 32 * KIB, unmap=False)
    assert (
        content(handler, 0, 64 * KIB) == pattern(64 * KIB)[:512] + bytes(32 * KIB) + pattern(64 * KIB)[33280:]
    )


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("directly", [False, True])
def test_zeroes_are_written_where_nothing_else_works(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch, code: int, directly: bool
) -> None:
    size = (2 << 20) + 8 * KIB
    handler = disk(on_disk / "a", size, direct=directly)
    handler.write(buffers(b"\xee" * size), 0)
    monkeypatch.setattr(module, "fallocate", failing(code))
    handler.write_zeroes(512, size - 1024, unmap=False)
    assert content(handler, 0, size) == b"\xee" * 512 + bytes(size - 1024) + b"\xee" * 512


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_an_unmap_that_the_device_has_come_to_refuse_writes_zeroes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    handler = disk(tmp_path / "a")
    handler.write(buffers(b"\xee" * 4096), 0)
    assert handler.capabilities().unmap_reads_zero
    monkeypatch.setattr(module, "fallocate", failing(code))
    handler.unmap(512, 1024)
    assert content(handler, 0, 4096) == b"\xee" * 512 + bytes(1024) + b"\xee" * 2560


def test_zeroing_that_fails_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = disk(tmp_path / "a")
    monkeypatch.setattr(module, "fallocate", failing(errno.EIO))
    with pytest.raises(OSError) as error:
        handler.write_zeroes(0, 512, unmap=True)
    assert error.value.errno == errno.EIO


def test_prior_art_2_1_1_a_failed_unmap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C daemon answered GOOD."""

    handler = disk(tmp_path / "a")
    monkeypatch.setattr(module, "fallocate", failing(errno.EIO))
    with pytest.raises(OSError):
        handler.unmap(0, 512)


def test_holes_of_a_block_device(loop_device: Path) -> None:
    handler = disk(loop_device, 4 << 20)
    handler.write(buffers(pattern(64 * KIB)), 0)
    handler.unmap(512, 8 * KIB)
    handler.write_zeroes(16 * KIB, 512, unmap=False)
    expected = bytearray(pattern(64 * KIB))
    expected[512 : 512 + 8 * KIB] = bytes(8 * KIB)
    expected[16 * KIB : 16 * KIB + 512] = bytes(512)
    assert content(handler, 0, 64 * KIB) == expected
    handler.flush()
    handler.close()


# -- extents -------------------------------------------------------------------------------------------


def test_extents(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a", 256 * KIB)
    handler.write(buffers(pattern(64 * KIB)), 64 * KIB)
    assert [tuple(extent) for extent in handler.extents(0, 256 * KIB)] == [
        (0, 64 * KIB, False), (64 * KIB, 64 * KIB, True), (128 * KIB, 128 * KIB, False),
    ]  # fmt: skip
    assert [tuple(extent) for extent in handler.extents(96 * KIB, 512)] == [(96 * KIB, 512, True)]
    assert [tuple(extent) for extent in handler.extents(255 * KIB, 1 * KIB)] == [(255 * KIB, 1 * KIB, False)]


def test_a_block_that_is_partly_data_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of 1 KiB blocks below a disk of 4 KiB blocks: data at 5-6 KiB and 7-9 KiB."""
    data = [(5 * KIB, 6 * KIB), (7 * KIB, 9 * KIB)]

    def lseek(_fd: int, at: int, whence: int) -> int:
        inside = [end for start, end in data if start <= at < end]
        if whence == os.SEEK_HOLE:
            return inside[0] if inside else at
        later = [at] if inside else [start for start, _ in data if start >= at]
        if not later:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return later[0]

    handler = disk(tmp_path / "a", 16 * KIB, 4096)
    monkeypatch.setattr(os, "lseek", lseek)
    assert [tuple(extent) for extent in handler.extents(0, 16 * KIB)] == [
        (0, 4 * KIB, False), (4 * KIB, 4 * KIB, True), (8 * KIB, 4 * KIB, True), (12 * KIB, 4 * KIB, False),
    ]  # fmt: skip


def test_extents_that_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = disk(tmp_path / "a")
    monkeypatch.setattr(os, "lseek", failing(errno.EIO))
    with pytest.raises(OSError):
        list(handler.extents(0, 512))


# -- life ----------------------------------------------------------------------------------------------


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a")
    handler.write(buffers(pattern(512)), 1024)
    handler.flush()
    handler.close()
    assert content(disk(tmp_path / "a", read_only=True), 1024, 512) == pattern(512)


def test_resize(tmp_path: Path, loop_device: Path) -> None:
    handler = disk(tmp_path / "a")
    handler.resize(128 * KIB)
    handler.write(buffers(pattern(512)), 128 * KIB - 512)
    handler.resize(512)
    assert (tmp_path / "a").stat().st_size == 128 * KIB
    on_device = disk(loop_device, 512)
    on_device.resize(4 << 20)
    with pytest.raises(OSError, match="set dev_size to 4194304 or less"):
        on_device.resize((4 << 20) + 512)
    on_device.close()


def test_a_read_only_disk_does_not_grow(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1024))
    handler = disk(tmp_path / "a", 512, read_only=True)
    handler.resize(1024)
    with pytest.raises(OSError, match="set dev_size to 1024 or less"):
        handler.resize(1536)


def test_many_threads_share_one_descriptor(tmp_path: Path) -> None:
    handler = disk(tmp_path / "a", 256 * KIB)
    wrong: list[int] = []

    def use(number: int) -> None:
        mine = bytes([number + 1]) * 512
        for round_ in range(100):
            offset = (round_ * 4 + number) % 512 * 512
            handler.write(buffers(mine), offset)
            list(handler.extents(0, 256 * KIB))
            if content(handler, offset, 512) != mine:
                wrong.append(offset)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
