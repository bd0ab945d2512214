"""A target for the real initiators of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.handler.registry import Registry

HERE = Path(__file__).parent
SIZE = 48 << 20
DISKS = {
    "512": Disk("everything/", SIZE, 512, removable=True),
    "512e": Disk("everything/", SIZE, 512, physical_block_size=4096),
    "4096": Disk("everything/", SIZE, 4096),
    "read-only": Disk("everything/", SIZE, 512, read_only=True),
}


@pytest.fixture(scope="session")
def registry() -> Registry:
    found = Registry()
    found.load_entry_points()
    found.load_file(HERE / "everything.py")
    return found


@pytest.fixture(scope="session")
def servers(registry: Registry) -> Iterator[dict[str, Server]]:
    """A target for each kind of unit, with two portals."""
    found = {kind: serve(disk, registry=registry, portals=2) for kind, disk in DISKS.items()}
    for server in found.values():
        server.start()
    yield found
    for server in found.values():
        server.stop()
