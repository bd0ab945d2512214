"""The file below a disk: what is refused, with a path and a remedy, and what is left behind."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.handler import Device
from tcmu_runner.handlers.backing import Backing, aligned_memory

MIB = 1 << 20


def opened(path: Path, size: int = MIB, *, read_only: bool = False, direct: bool = False) -> None:
    Backing.open(path, Device("disk", size), read_only=read_only, direct=direct).close()


def refusal(path: Path, size: int = MIB, *, read_only: bool = False, direct: bool = False) -> tuple[int, str]:
    """(errno, text) of the refusal; the text names the path."""
    with pytest.raises(OSError) as error:
        opened(path, size, read_only=read_only, direct=direct)
    text = str(error.value.strerror)
    assert str(path) in text
    assert error.value.errno is not None
    return error.value.errno, text


def test_a_missing_file_is_made_sparse_and_private(tmp_path: Path) -> None:
    opened(tmp_path / "new.img", 1 << 40)
    status = (tmp_path / "new.img").stat()
    assert status.st_size == 1 << 40
    assert status.st_blocks * 512 < MIB
    assert status.st_mode & 0o777 == 0o600


def test_a_short_file_grows_and_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "short.img"
    path.write_bytes(b"kept")
    opened(path, 4096)
    assert path.read_bytes() == b"kept" + bytes(4092)


def test_a_long_file_keeps_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "long.img"
    path.write_bytes(b"x" * 5000)
    opened(path, 4096)
    assert path.read_bytes() == b"x" * 5000


def test_a_smaller_disk_cuts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    backing = Backing.open(path, Device("disk", 8192))
    backing.fit(4096, 512)
    assert path.stat().st_size == 8192
    backing.fit(16384, 512)
    assert path.stat().st_size == 16384
    backing.close()


def test_missing_directory(tmp_path: Path) -> None:
    code, text = refusal(tmp_path / "nosuch" / "a.img")
    assert code == errno.ENOENT
    assert f"{tmp_path / 'nosuch'} does not exist: create it, or correct the path" in text


def test_directory(tmp_path: Path) -> None:
    for read_only in (False, True):
        assert refusal(tmp_path, read_only=read_only) == (
            errno.EISDIR, f"{tmp_path} is a directory: name a file in it",
        )  # fmt: skip


def test_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = refusal(tmp_path / "file" / "a.img")
    assert code == errno.ENOTDIR
    assert text.endswith("Not a directory: correct the path")


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read_only in (False, True):
        code, text = refusal(tmp_path / "pipe", read_only=read_only)
        assert code == errno.EINVAL
        assert "is neither a file nor a block device: correct the path" in text


def test_a_character_device_is_refused() -> None:
    assert refusal(Path("/dev/null"))[0] == errno.EINVAL


@pytest.mark.parametrize("path", ["/dev/nosuch", "/dev/../dev/nosuch", "//dev/nosuch"])
def test_a_missing_device_node_does_not_become_a_file(path: str) -> None:
    code, text = refusal(Path(path))
    assert code == errno.ENOENT
    assert "a file among the device nodes would fill the memory: bring the device up" in text
    assert not Path("/dev/nosuch").exists()


def test_neither_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to("/dev/nosuch")
    assert refusal(tmp_path / "disk")[0] == errno.ENOENT
    assert not Path("/dev/nosuch").exists()


def test_shared_memory_is_no_device_node(tmpfs: Path) -> None:
    opened(tmpfs / "a.img")
    assert (tmpfs / "a.img").stat().st_size == MIB


def test_a_link_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target.img")
    opened(tmp_path / "link")
    assert (tmp_path / "target.img").stat().st_size == MIB


def test_read_only_makes_nothing(tmp_path: Path) -> None:
    code, text = refusal(tmp_path / "a.img", read_only=True)
    assert code == errno.ENOENT
    assert "does not exist: correct the path, or leave out the option read_only" in text
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_that_is_too_small(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(b"x" * 5000)
    code, text = refusal(path, 8192, read_only=True)
    assert code == errno.EINVAL
    assert "has 5000 bytes (4.9 KiB), not 8192, and cannot grow: set dev_size to 4608 or less" in text
    assert path.stat().st_size == 5000
    opened(path, 4608, read_only=True)


def test_a_read_only_file_is_opened_for_reading_only(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(bytes(4096))
    backing = Backing.open(path, Device("disk", 4096), read_only=True)
    with pytest.raises(OSError):
        os.pwrite(backing.fd, b"x", 0)
    backing.close()


@pytest.fixture
def short_files() -> Iterator[None]:
    """A file system whose files end at 1 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("short_files")
def test_a_disk_longer_than_any_file(tmp_path: Path) -> None:
    """ftruncate(2): EFBIG. What was made is gone again."""
    code, text = refusal(tmp_path / "a.img", MIB + 512)
    assert (code, list(tmp_path.iterdir())) == (errno.EFBIG, [])
    assert text.endswith("its file system has no files that long; set a smaller dev_size")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "give the daemon's user access to it"),
        (errno.EROFS, "add the option read_only, or mount the file system writable"),
        (errno.EBUSY, "it is mounted or part of another device; free it"),
        (errno.ENOSPC, "free space on its file system"),
        (errno.ENXIO, "no device is behind this node"),
        (errno.EIO, "correct the path, or mend the storage"),
    ],
)
def test_what_the_system_refuses_is_said_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    found, text = refusal(tmp_path / "a.img")
    assert found == code
    assert os.strerror(code) in text and remedy in text


def test_a_file_system_without_direct_io_keeps_no_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open(2), EINVAL: the kernel makes the file before it finds that the file system has no O_DIRECT."""
    real = os.open

    def without_direct(path: Path, flags: int, mode: int = 0o777) -> int:
        os.close(real(path, flags & ~os.O_DIRECT, mode))
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags & ~os.O_CREAT & ~os.O_EXCL, mode)

    monkeypatch.setattr(os, "open", without_direct)
    code, text = refusal(tmp_path / "a.img", direct=True)
    assert code == errno.EINVAL
    assert text.endswith("its file system has no direct I/O: leave out the option direct")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_one_makes_meanwhile_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(path: Path, flags: int, mode: int = 0o777) -> int:
        Path(path).write_text("another's")
        return real(path, flags, mode)

    real = os.open
    monkeypatch.setattr(os, "open", too_late)
    assert refusal(tmp_path / "a.img")[0] == errno.EEXIST
    assert (tmp_path / "a.img").read_text() == "another's"


def test_blocks_too_small_for_direct_io(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "preadv", refuse)
    code, text = refusal(on_disk / "a.img", direct=True)
    assert code == errno.EINVAL
    assert "cannot be read directly in blocks of 512 bytes" in text
    assert "set hw_block_size=4096, or leave out the option direct" in text
    assert list(on_disk.iterdir()) == []


@pytest.mark.usefixtures("short_files")
def test_a_refusal_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    path = tmp_path / "a.img"
    path.write_bytes(b"x")
    refusal(path, 4096, read_only=True)
    refusal(tmp_path / "b.img", MIB + 512)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_aligned_memory() -> None:
    view = aligned_memory(4096)
    assert len(view) == 4096
    assert not any(view)


# -- block devices -------------------------------------------------------------------------------------


def test_a_block_device(loop_device: Path) -> None:
    backing = Backing.open(loop_device, Device("disk", 4 * MIB))
    assert backing.is_block
    assert backing.punches_holes(512)
    backing.close()


def test_a_block_device_cannot_grow(loop_device: Path) -> None:
    code, text = refusal(loop_device, 4 * MIB + 512)
    assert code == errno.EINVAL
    assert "set dev_size to 4194304 or less" in text


def test_a_block_device_that_is_in_use(loop_device: Path) -> None:
    claim = os.open(loop_device, os.O_RDWR | os.O_EXCL)  # as mount(2) claims it
    code, text = refusal(loop_device)
    assert code == errno.EBUSY
    assert "it is mounted or part of another device; free it, or add the option read_only" in text
    opened(loop_device, read_only=True)
    os.close(claim)
    opened(loop_device)
