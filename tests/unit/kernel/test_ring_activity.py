"""A ring seen from outside."""

import struct
from pathlib import Path

import pytest

from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import RingActivity, UioDevice

from .tree import make_uio

SIZE = 4096
HEAD_AT, TAIL_AT = 12, 64  # linux/target_core_user.h, struct tcmu_mailbox: cmd_tail is on its own cache line


@pytest.fixture
def node(paths: Paths) -> Path:
    make_uio(paths, size=SIZE)
    node = paths.dev / "uio0"
    node.write_bytes(bytes(SIZE))
    return node


def put(node: Path, offset: int, value: int) -> None:
    with node.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("=I", value))


def test_a_ring_stirs_while_commands_wait_and_once_after(paths: Paths, node: Path) -> None:
    ring_activity = RingActivity(UioDevice.open(0, paths))
    assert not ring_activity.stirs()
    put(node, HEAD_AT, 128)
    assert ring_activity.stirs()
    assert ring_activity.stirs()
    put(node, TAIL_AT, 128)
    assert ring_activity.stirs()
    assert not ring_activity.stirs()
    ring_activity.close()


def test_commands_that_came_and_went_unseen_are_noticed(paths: Paths, node: Path) -> None:
    ring_activity = RingActivity(UioDevice.open(0, paths))
    put(node, HEAD_AT, 256)
    put(node, TAIL_AT, 256)
    assert ring_activity.stirs()
    assert not ring_activity.stirs()
    ring_activity.close()
