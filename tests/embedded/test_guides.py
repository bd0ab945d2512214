"""Each guide's examples, one after the other in one directory, as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ["encrypted-and-compressed.md"]
EXAMPLE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_examples_of_a_guide_work(guide: str, tmp_path: Path) -> None:
    examples = EXAMPLE.findall((DOCS / guide).read_text())
    assert examples
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    for example in examples:
        ended = subprocess.run(
            ["sh", "-eu", "-c", example], env={**os.environ, "PATH": path}, cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, f"{example}\n{ended.stdout}{ended.stderr}"
