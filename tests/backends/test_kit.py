"""The conformance kit on handlers whose storage is a real server; its own process is this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cases.glfs import GlusterBackend
from cases.nbd import NbdkitBackend, PlainNbdkitBackend
from cases.qcow import ImageBackend, RawBackend, VmdkBackend
from harness import Backend
from harness.served import PROGRAM
from namespace import inside

from tcmu_runner.handler.registry import Registry
from tcmu_runner.testing.conformance import SIZE, check_handler, device

PROBE = """
import sys
from tcmu_runner.handlers.glfs import GlfsHandler
print(GlfsHandler.probe(GlfsHandler.parse(sys.argv[1])))
"""
ROOM = 2 * SIZE  # the kit lets a disk grow to this


@pytest.mark.parametrize(
    ("make", "block_size"),
    [(NbdkitBackend, 512), (PlainNbdkitBackend, 4096), (ImageBackend, 512), (ImageBackend, 4096),
     (RawBackend, 512), (VmdkBackend, 4096)],
)  # fmt: skip
def test_kit(tmp_path: Path, make: Callable[[Path, int], Backend], block_size: int) -> None:
    backend = make(tmp_path, ROOM)
    backend.start()
    registry = Registry()
    registry.load_entry_points()
    provider, parts = registry.find(backend.config)
    assert isinstance(provider, type)
    options = provider.parse(parts.rest)
    assert provider.probe(options) == ROOM
    report = check_handler(
        lambda: provider.open(device(block_size=block_size), options),
        block_size=block_size, persistent=True,
    )  # fmt: skip
    backend.stop()
    assert report.ok, str(report)


@pytest.mark.xdist_group("gluster")
def test_kit_on_gluster(tmp_path: Path) -> None:
    """In its network namespace, so as programs."""
    directory = tmp_path / "backend"
    directory.mkdir()
    backend = GlusterBackend(directory, ROOM)
    backend.start()
    subtype, _, rest = backend.config.partition("/")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        words = (*inside(backend.namespace), *words)
        return subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)

    def probe() -> str:
        return run(sys.executable, "-c", PROBE, rest).stdout.strip()

    assert probe() == "None"
    done = run(str(PROGRAM), "check", "--persistent", subtype, rest)
    assert int(probe()) >= SIZE
    backend.stop()
    assert done.returncode == 0, done.stdout + done.stderr
