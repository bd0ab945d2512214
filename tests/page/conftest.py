"""A browser on this host, and a daemon in the machine that it looks at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from vm import cli, host, install, serve
from vm.kinds import QEMU
from vm.machine import Machine

PORT = 9809
LEAVE_ALONE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


class Act(Protocol):
    def __call__(self, *arguments: str | int) -> None: ...


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """The machine of `./dev vm serve` if it runs and is QEMU's, whose ports can be reached; else one of our
    own.
    """
    with ExitStack() as stack:
        if (running := serve.running()) is not None and running.kind == QEMU:
            stack.enter_context(serve.held("tests/page"))
            serve.refresh(running)
            yield running
        else:
            yield stack.enter_context(cli.fresh("page", QEMU))


@pytest.fixture(scope="session")
def act(machine: Machine) -> Act:
    """Something happens in the machine, see scene.py; it has happened when this returns."""

    def act(*arguments: str | int) -> None:
        output: list[str] = []
        ended = machine.run(
            ["python3", "tests/page/scene.py", *map(str, arguments)],
            timeout=240,
            output=lambda _stream, data: output.append(data.decode(errors="replace")),
            cwd=install.SOURCE,
        )
        assert ended.status == 0, f"{arguments}: {ended.note}\n{''.join(output)}"

    return act


@pytest.fixture(scope="session")
def address(machine: Machine, act: Act) -> Iterator[str]:
    """HOST:PORT of the daemon, which has no device."""
    port = machine.open_port(PORT)
    act("clean")
    act("start")
    yield f"127.0.0.1:{port}"
    act("clean")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are left for people to look at."""
    directory = host.CHECKOUT / "out" / "page"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for option in [*LEAVE_ALONE.split(), f"--user-data-dir={tmp_path}", "--window-size=1280,900"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Service(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))
    browser = webdriver.Chrome(options=options, service=driver)
    yield browser
    browser.quit()
