"""A unit over every handler, and over stacks of filters, beside a bytearray: random SCSI commands."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from scsi.model import Storage, machine

from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler import Device
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.stacked import definition

Layers = tuple[tuple[str, dict[str, object]], ...]
QUICK = settings(max_examples=15, stateful_step_count=25)
STACKS: list[Layers] = [
    (("stats", {}), ("offset", {"offset": "64K"}), ("log", {})),
    (("retry", {"seconds": 1e-4}), ("error", {"rules": [{"probability": 0.2, "status": "busy"}]})),
]


class Opened:
    """A stack, as the model wants it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._perform = stack.perform()

    def perform(self, operation: Operation) -> None:
        self._perform(operation)

    def close(self) -> None:
        self.stack.close()


def run(config: str, *layers: tuple[str, dict[str, object]], forgets: bool = False) -> None:
    """config: with {} for a number that is new each time."""
    numbers = itertools.count()

    def open_storage(size: int, block_size: int) -> tuple[Capabilities, Storage]:
        made, options = definition(config.format(next(numbers)), *layers)
        stack = Stack.open(made, options, Device("model", size, block_size))
        return stack.capabilities, Opened(stack)

    run_state_machine_as_test(machine(open_storage, forgets=forgets), settings=QUICK)


def test_ram() -> None:
    run("ram/")


def test_null() -> None:
    run("null/", forgets=True)


def test_file(tmp_path: Path) -> None:
    run(f"file/{tmp_path}/{{}}.img")


def test_file_without_page_cache(on_disk: Path) -> None:
    run(f"file/{on_disk}/{{}}.img;direct")


def test_file_on_tmpfs(tmpfs: Path) -> None:
    run(f"file/{tmpfs}/{{}}.img")


def test_zstd(tmp_path: Path) -> None:
    run(f"zstd/{tmp_path}/{{}}.zdb")


@pytest.mark.parametrize("layers", STACKS, ids=["+".join(name for name, _ in layers) for layers in STACKS])
def test_filters(layers: Layers, tmp_path: Path) -> None:
    run("ram/", *layers)
    run(f"file/{tmp_path}/{{}}.img", *layers)
