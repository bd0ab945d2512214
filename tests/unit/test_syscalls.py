"""fallocate and buffer addresses, by what they do to a file and to memory."""

import ctypes
import errno
import mmap
import os
from pathlib import Path

import pytest

from tcmu_runner.syscalls import KEEP_SIZE, PUNCH_HOLE, address, fallocate, vector, writable


def test_fallocate_takes_offsets_beyond_32_bits(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    at = 5 << 30
    os.pwrite(fd, b"x" * 8192, at)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at + 4096, 4096)
    assert os.pread(fd, 8192, at) == b"x" * 4096 + bytes(4096)
    os.close(fd)


def test_fallocate_says_what_is_wrong() -> None:
    with pytest.raises(OSError) as error:
        fallocate(-1, PUNCH_HOLE | KEEP_SIZE, 0, 4096)
    assert error.value.errno == errno.EBADF


def test_address() -> None:
    with mmap.mmap(-1, 8192) as memory:
        view = memoryview(memory)
        assert address(view) % mmap.PAGESIZE == 0
        assert address(view[5:]) - address(view) == 5
        view.release()


def test_a_vector_of_buffers() -> None:
    buffers = [memoryview(bytearray(b"abc")), memoryview(bytearray(b"defgh"))[1:3]]
    pieces = [ctypes.string_at(piece.base, piece.length) for piece in vector(buffers)]
    assert pieces == [b"abc", b"ef"]


def test_buffers_that_cannot_be_written_are_copied() -> None:
    kept, copied = writable([memoryview(bytearray(b"a")), memoryview(b"b")])
    assert not copied.readonly and bytes(copied) == b"b"
    assert bytes(kept) == b"a"
