"""The files of `cow`, `cache` and `verify`: names, locks, short transfers."""

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest
from support.clock import ManualClock

from tcmu_runner.errors import DeviceError
from tcmu_runner.filters import sidecar
from tcmu_runner.handler.device import Device


def test_each_device_has_a_file_of_its_own(tmp_path: Path) -> None:
    """The name of a device may have slashes, that of a file may not."""
    names = [sidecar.path_of(Device(name, 512), tmp_path, "cow") for name in ("a/b", "a%2Fb", "a b")]
    assert names[0] == tmp_path / "a%2Fb.cow"
    assert len(set(names)) == 3
    assert {name.parent for name in names} == {tmp_path}


OLD = "user_0%2Fvol0.cow"


def path_of(directory: Path, name: str = "user_2/vol0") -> Path:
    return sidecar.path_of(Device(name, 512), directory, "cow")


def test_the_hba_is_no_part_of_the_name(tmp_path: Path) -> None:
    """After a reboot rtslib may have given the LUN another one."""
    assert path_of(tmp_path, "user_0/vol0") == path_of(tmp_path, "user_17/vol0") == tmp_path / "vol0.cow"
    assert path_of(tmp_path, "user_0/user_1") == tmp_path / "user_1.cow"


def test_the_file_of_an_earlier_version_gets_the_new_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever HBA the LUN had when it was last served by that version."""
    caplog.set_level(logging.INFO)
    for other in ("user_0%2Fvol01.cow", "user_0%2Fvol0.cache", "user_x%2Fvol0.cow", "xuser_0%2Fvol0.cow"):
        (tmp_path / other).touch()
    (tmp_path / OLD).write_text("kept")
    assert path_of(tmp_path).read_text() == "kept"
    assert not (tmp_path / OLD).exists()
    assert len(list(tmp_path.iterdir())) == 5
    assert f"user_2/vol0: {OLD} of an earlier version: renamed to vol0.cow" in caplog.text


def test_a_file_of_the_new_name_counts(tmp_path: Path) -> None:
    (tmp_path / OLD).write_text("old")
    (tmp_path / "vol0.cow").write_text("new")
    assert path_of(tmp_path).read_text() == "new"
    assert (tmp_path / OLD).exists()


def test_of_several_old_files_a_person_has_to_choose(tmp_path: Path) -> None:
    """The LUN had several HBAs; which file was the last one in use nothing tells for sure."""
    for at, name in enumerate(("user_2%2Fvol0.cow", OLD)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    with pytest.raises(DeviceError, match=r"user_0%2Fvol0.cow, user_2%2Fvol0.cow: rename .* to vol0.cow"):
        path_of(tmp_path)


def test_of_several_old_files_one_is_in_use_where_an_upgrade_finds_it(tmp_path: Path) -> None:
    """No reboot has come between: it has the name that the LUN has now, and was written last."""
    for at, name in enumerate((OLD, "user_2%2Fvol0.cow")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (at, at))
    assert path_of(tmp_path).read_text() == "user_2%2Fvol0.cow"


def test_a_file_that_cannot_be_renamed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / OLD).touch()
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DeviceError, match=r"user_0%2Fvol0.cow: Permission denied: rename it to vol0.cow"):
        path_of(tmp_path)


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    fd = sidecar.claim(tmp_path / "file", "overlay")
    with pytest.raises(DeviceError, match=r"overlay .*/file is in use by another process"):
        sidecar.claim(tmp_path / "file", "overlay", ManualClock())
    os.close(fd)
    os.close(sidecar.claim(tmp_path / "file", "overlay"))


def test_where_it_cannot_be_locked_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors: list[int] = []

    def no_locks(fd: int, _kind: int) -> None:
        descriptors.append(fd)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DeviceError, match=r"cache .*/file cannot be locked: No locks available; choose"):
        sidecar.claim(tmp_path / "file", "cache")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])


def test_where_it_cannot_be_made_the_way_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cache .*: No such file or directory; correct the directory"):
        sidecar.claim(tmp_path / "none" / "file", "cache")


def test_behind_the_end_are_zeroes(tmp_path: Path) -> None:
    fd = sidecar.claim(tmp_path / "file", "cache")
    sidecar.pwrite(fd, b"abc", 10)
    assert sidecar.pread(fd, 8, 9) == b"\0abc\0\0\0\0"
    os.close(fd)


def test_buffers_are_written_one_behind_the_other(tmp_path: Path) -> None:
    fd = sidecar.claim(tmp_path / "x", "cache")
    sidecar.pwritev(fd, [memoryview(bytearray(b"abc")), memoryview(bytearray(b"de"))], 2)
    assert sidecar.pread(fd, 8, 0) == b"\0\0abcde\0"
    os.close(fd)
