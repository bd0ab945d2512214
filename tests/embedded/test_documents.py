"""How-tos that need no kernel do what they say."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/vm"))  # support, which we share

from support import console  # noqa: E402

PAGES = ["howto/own-handler.md", "howto/from-the-c-daemon.md"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    found = console.run(ROOT / "docs" / page, tmp_path)
    assert not found, "\n\n".join(found)


def test_every_page_with_commands_is_run_by_a_test() -> None:
    shown = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")
             if "```console" in page.read_text()}  # fmt: skip
    in_the_machine = (ROOT / "tests/vm/test_documents.py").read_text()
    assert {page for page in shown if page not in PAGES and f'"{page}"' not in in_the_machine} == set()


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    commands = ["$ echo a", "a", "$ echo b", "c", "$ false", "$ exit", "$ echo never"]
    (page := tmp_path / "page.md").write_text("\n".join(["```console", *commands, "```", ""]))
    found = [complaint.splitlines()[0] for complaint in console.run(page, tmp_path)]
    assert found == ["$ echo b", "$ false", "$ exit", "the shell ended before: echo never"]
