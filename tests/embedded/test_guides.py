"""Each guide's examples, one after the other in one directory, as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = ["README.md", "docs/encrypted-and-compressed.md"]
EXAMPLE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HANDLER = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_examples_of_a_guide_work(guide: str, tmp_path: Path) -> None:
    text = (ROOT / guide).read_text()
    examples = EXAMPLE.findall(text)
    assert examples
    if shown := HANDLER.search(text):
        (tmp_path / "mine.py").write_text(shown[1])
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "dev").write_text(f'#!/bin/sh\nexec {ROOT}/dev "$@"\n')
    (tmp_path / "dev").chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    for example in examples:
        ended = subprocess.run(
            ["sh", "-eu", "-c", example], env={**os.environ, "PATH": path}, cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, f"{example}\n{ended.stdout}{ended.stderr}"
