"""Every handler beside a bytearray, block sizes 512 and 4096."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tcmu_runner.handler import Device, Handler
from tcmu_runner.handlers.file import FileHandler, FileOptions
from tcmu_runner.handlers.null import NullHandler
from tcmu_runner.handlers.ram import RamHandler

from .model import machine

Kind = Callable[[Device], Handler[Any]]
QUICK = settings(max_examples=40, stateful_step_count=20)


def run(kind: Kind, block_size: int, *, forgets: bool = False) -> None:
    def open_disk(size: int) -> Handler[Any]:
        return kind(Device("model", size, block_size))

    run_state_machine_as_test(machine(open_disk, block_size, forgets=forgets), settings=QUICK)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_ram(block_size: int) -> None:
    run(lambda device: RamHandler.open(device, ""), block_size)


def test_null() -> None:
    run(lambda device: NullHandler.open(device, ""), 512, forgets=True)


def files(directory: Path, *, direct: bool = False) -> Kind:
    numbers = itertools.count()

    def fresh(device: Device) -> FileHandler:
        return FileHandler.open(device, FileOptions(f"{directory}/{next(numbers)}.img", direct=direct))

    return fresh


@pytest.mark.parametrize("block_size", [512, 4096])
def test_file(tmp_path: Path, block_size: int) -> None:
    run(files(tmp_path), block_size)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_file_without_page_cache(on_disk: Path, block_size: int) -> None:
    run(files(on_disk, direct=True), block_size)


def test_file_on_tmpfs(tmpfs: Path) -> None:
    """No ZERO_RANGE there: zeroes are punched."""
    run(files(tmpfs), 512)
