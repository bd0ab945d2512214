"""Tests on a machine with Debian, where our Debian package is the only thing of ours: see tests/machines."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vm"))  # support, which we share

from support import cleanup
from support.daemon import unexpected
from support.deadline import command

PACKAGE = Path("/host/share/tcmu-runner.deb")
UNIT = "tcmu-runner.service"
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pytest_sessionstart() -> None:
    if not PACKAGE.exists():
        pytest.exit("these tests need a machine of their own: python -m pytest tests/machines", 2)
    os.environ["PATH"] = PROGRAMS
    os.chdir("/")  # away from our source
    command("modprobe", "-a", "tcm_loop", "iscsi_target_mod")


@pytest.fixture(autouse=True)
def clean_slate() -> Iterator[None]:
    cleanup.everything()
    yield
    cleanup.everything()


@pytest.fixture
def service() -> Iterator[None]:
    """The installed daemon, running; what it logs meanwhile is no complaint."""
    systemctl("start", "tcmu-runner")
    since = command("date", "+%Y-%m-%d %H:%M:%S").strip()
    yield
    log = journal("--since", since)
    assert not (found := unexpected(log, [])), "\n".join(found)


def systemctl(*words: str) -> str:
    """An emulated machine takes its time to load all units again."""
    return command("systemctl", *words, seconds=300)


def journal(*options: str) -> str:
    """What the service has logged."""
    return command("journalctl", "--quiet", "--no-pager", "--output=cat", "-u", "tcmu-runner", *options)


def is_active() -> bool:
    return systemctl("show", "-P", "ActiveState", "tcmu-runner").strip() == "active"
