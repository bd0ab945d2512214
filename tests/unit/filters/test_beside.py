"""The files of `cow`, `cache` and `verify`: names, locks, short transfers."""

import os
from pathlib import Path

import pytest

from tcmu_runner.errors import DeviceError
from tcmu_runner.filters import beside
from tcmu_runner.handler.device import Device


def test_each_device_has_a_file_of_its_own(tmp_path: Path) -> None:
    """The name of a device may have slashes, that of a file may not."""
    names = [beside.path_of(Device(name, 512), tmp_path, "cow") for name in ("a/b", "a%2Fb", "a b")]
    assert names[0] == tmp_path / "a%2Fb.cow"
    assert len(set(names)) == 3
    assert {name.parent for name in names} == {tmp_path}


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    fd = beside.claim(tmp_path / "file", "overlay")
    with pytest.raises(DeviceError, match=r"overlay .*/file is in use by another process"):
        beside.claim(tmp_path / "file", "overlay")
    os.close(fd)
    os.close(beside.claim(tmp_path / "file", "overlay"))


def test_where_it_cannot_be_made_the_way_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cache .*: No such file or directory; correct the directory"):
        beside.claim(tmp_path / "none" / "file", "cache")


def test_behind_the_end_are_zeroes(tmp_path: Path) -> None:
    fd = beside.claim(tmp_path / "file", "cache")
    beside.pwrite(fd, b"abc", 10)
    assert beside.pread(fd, 8, 9) == b"\0abc\0\0\0\0"
    os.close(fd)


def test_buffers_are_written_one_behind_the_other(tmp_path: Path) -> None:
    fd = beside.claim(tmp_path / "x", "cache")
    beside.pwritev(fd, [memoryview(bytearray(b"abc")), memoryview(bytearray(b"de"))], 2)
    assert beside.pread(fd, 8, 0) == b"\0\0abcde\0"
    os.close(fd)
