"""Tutorial and how-tos do what they say, on the real kernel."""

from pathlib import Path

import pytest
from support import console
from support.daemon import Daemon
from support.deadline import command

DOCS = Path(__file__).parents[2] / "docs"
HOW_TOS = ["howto/targetcli.md", "howto/configfs.md", "howto/hung-device.md"]
PAGES = ["../README.md", "tutorial/first-disk.md", *HOW_TOS]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(daemon: Daemon, page: str, tmp_path: Path) -> None:
    command("systemctl", "start", "iscsid")
    found = console.run(DOCS / page, tmp_path)
    assert not found, "\n\n".join(found)
