"""A file system in memory, and a block device: both from this machine where it has them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.syscalls import KEEP_SIZE, ZERO_RANGE, fallocate


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A directory on a tmpfs."""
    shared = Path("/dev/shm")
    if not os.path.ismount(shared):
        pytest.skip("/dev/shm is no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """A directory on a disk's file system, which can do more than one in memory."""
    probe = tmp_path / "probe"
    try:
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 0, 4096)
        os.close(fd)
        probe.write_bytes(bytes(4096))
        with probe.open("rb") as file:
            os.preadv(file.fileno(), [bytearray(512)], 0, os.RWF_NOWAIT)
    except OSError as error:
        pytest.skip(f"the temporary directory is on no disk: no O_DIRECT, ZERO_RANGE, RWF_NOWAIT ({error})")
    probe.unlink()
    return tmp_path


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Path]:
    """A block device of 4 MiB with 512-byte sectors."""
    image = tmp_path / "loop.img"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no loop device can be made here (root and the loop driver are needed)")
    device = Path(made.stdout.strip())
    yield device
    subprocess.run(["losetup", "--detach", str(device)], check=True)
