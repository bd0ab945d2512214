"""The README's main job where the kernel has no LIO."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_ends_with_a_disk_that_was_written_and_read() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", ROOT / "examples/demo.sh"], env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "read 8388608/8388608 bytes at offset 16777216" in ended.stdout
    assert "iscsiadm -m discovery" in ended.stdout
