"""Which file it is, whatever its name; data and holes, in whole blocks of a disk that begins in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tcmu_runner.handler import file_facts as module
from tcmu_runner.handler.file_facts import extents, identity_of
from tcmu_runner.scsi.operations import Extent

KIB = 1024


def of(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return identity_of(fd, str(path))
    finally:
        os.close(fd)


def test_a_renamed_file_is_the_same_and_a_new_one_under_its_name_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.touch()
    before = of(path)
    path.write_bytes(b"content")
    assert of(path) == before
    assert of(path.rename(tmp_path / "b.img")) == before
    (tmp_path / "b.img").unlink()  # its inode is free again
    path.touch()
    assert of(path) != before


def test_where_inodes_may_be_others_after_a_mount_the_path_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_made", lambda _fd: [])
    monkeypatch.setattr(module, "_generation", lambda _fd: [])
    (tmp_path / "a.img").touch()
    assert of(tmp_path / "a.img") == f"path {tmp_path}/a.img"


@contextmanager
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> Iterator[str]:
    """What a block device of the numbers 7:1 is called where sysfs has these files."""
    for name, content in files.items():
        path = tmp_path / "7:1" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(module, "BLOCK_DEVICES", tmp_path)
    yield module._block_device(os.makedev(7, 1), "/dev/x")


def test_a_block_device_is_known_by_what_does_not_change_at_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node(tmp_path, monkeypatch, dm__uuid="LVM-abc\n") as found:
        assert found == "disk LVM-abc"
    with node(tmp_path / "2", monkeypatch, size="8") as found:
        assert found == "path /dev/x"


def test_a_partition_is_known_by_its_disk_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wwid").write_text("naa.5000\n")  # the disk's, whose directory has the partition's in it
    with node(tmp_path, monkeypatch, partition="2\n") as found:
        assert found == "disk naa.5000, partition 2"


def test_a_block_device_is_not_known_by_its_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node in /dev is another one after each boot."""
    with node(tmp_path, monkeypatch, wwid="naa.5000\n"):
        status = SimpleNamespace(st_mode=stat.S_IFBLK | 0o600, st_rdev=os.makedev(7, 1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda _fd: status)
            assert identity_of(3, "/dev/x") == "disk naa.5000"


def test_without_statx_and_generations_the_path_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library before statx, and a pipe: its file system numbers no generations (ENOTTY)."""
    monkeypatch.setattr(module, "_libc", object())
    reader, writer = os.pipe()
    try:
        assert identity_of(reader, "/run/a") == "path /run/a"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("start", [0, 64 * KIB])
def test_data_and_holes(tmp_path: Path, start: int) -> None:
    """A block that is partly data is data; what lies behind the end of the file is a hole."""
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.truncate(start + 256 * KIB)
        os.pwrite(file.fileno(), b"x" * 4 * KIB, start + 68 * KIB)
        found = list(extents(file.fileno(), 0, 512 * KIB, 64 * KIB, start))
    assert found == [
        Extent(0, 64 * KIB, mapped=False),
        Extent(64 * KIB, 64 * KIB, mapped=True),
        Extent(128 * KIB, 384 * KIB, mapped=False),
    ]


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.write(b"x" * 256 * KIB)
        found = list(extents(file.fileno(), 64 * KIB, 64 * KIB, 4 * KIB))
    assert found == [Extent(64 * KIB, 64 * KIB, mapped=True)]


def test_a_file_that_cannot_tell_fails() -> None:
    """A pipe has no offsets: not to be taken for a hole (lseek(2), ESPIPE)."""
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            list(extents(reader, 0, 4096, 512))
    finally:
        os.close(reader)
        os.close(writer)
