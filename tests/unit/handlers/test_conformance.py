"""Every handler of ours keeps the contract that others are held to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.kit import KIT_SIZE

from tcmu_runner.handlers.file import FileHandler, FileOptions
from tcmu_runner.handlers.null import NullHandler
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.testing.conformance import Outcome, Report, check_handler, device


def missed(report: Report) -> set[str]:
    """The checks that had nothing to look at, beside those of what no handler here does as one operation;
    none failed."""
    assert report.ok, str(report)
    found = {result.name for result in report.results if result.outcome is Outcome.NOT_APPLICABLE}
    return found - {"compare and write", "write same"}


def failing_file(path: Path) -> FileHandler:
    """Its descriptor is a pipe's: the system refuses every read and write at an offset (ESPIPE)."""
    handler = FileHandler.open(device(KIT_SIZE), FileOptions(str(path)))
    ends = os.pipe()
    os.dup2(ends[1], handler.fd)
    for end in ends:
        os.close(end)
    return handler


@pytest.mark.parametrize("block_size", [512, 4096])
def test_file(tmp_path: Path, block_size: int) -> None:
    report = check_handler(
        lambda: FileHandler.open(device(KIT_SIZE, block_size), FileOptions(f"{tmp_path}/a")),
        size=KIT_SIZE,
        block_size=block_size,
        persistent=True,
        open_failing=lambda: failing_file(tmp_path / "b"),
    )
    assert missed(report) == {"crypto erase", "inline", "command"}


def test_file_without_page_cache(on_disk: Path) -> None:
    options = FileOptions(f"{on_disk}/a", direct=True)
    report = check_handler(
        lambda: FileHandler.open(device(KIT_SIZE), options), size=KIT_SIZE, persistent=True
    )
    assert missed(report) == {"crypto erase", "inline", "command", "errors"}


def test_file_on_tmpfs(tmpfs: Path) -> None:
    report = check_handler(
        lambda: FileHandler.open(device(KIT_SIZE), FileOptions(f"{tmpfs}/a")), size=KIT_SIZE, persistent=True
    )
    assert missed(report) == {"crypto erase", "inline", "command", "errors"}


def test_file_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(KIT_SIZE))
    options = FileOptions(f"{tmp_path}/a", read_only=True)
    report = check_handler(
        lambda: FileHandler.open(device(KIT_SIZE), options), size=KIT_SIZE, persistent=True
    )
    assert missed(report) == {
        "write", "flush", "write durable", "unmap", "write zeroes", "space", "crypto erase",
        "random sequence", "inline", "command", "durability", "errors",
    }  # fmt: skip


def test_block_device(loop_device: Path) -> None:
    size = 4 << 20
    report = check_handler(
        lambda: FileHandler.open(device(size), FileOptions(str(loop_device))), size=size, persistent=True
    )
    assert missed(report) == {"extents", "space", "crypto erase", "inline", "command", "errors"}


@pytest.mark.parametrize("block_size", [512, 4096])
def test_ram(block_size: int) -> None:
    def refuse() -> RamHandler:
        raise OSError(errno.ENOMEM, "no memory")

    report = check_handler(
        lambda: RamHandler.open(device(KIT_SIZE, block_size), ""),
        size=KIT_SIZE,
        block_size=block_size,
        open_failing=refuse,
    )
    assert missed(report) == {
        "flush",
        "space",
        "crypto erase",
        "at once",
        "command",
        "persistence",
        "durability",
    }


def test_null() -> None:
    report = check_handler(lambda: NullHandler.open(device(KIT_SIZE), ""), size=KIT_SIZE, forgets=True)
    assert missed(report) == {
        "flush",
        "space",
        "crypto erase",
        "at once",
        "command",
        "persistence",
        "durability",
        "errors",
    }
