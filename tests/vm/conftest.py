"""Fixtures of the tests that run inside the virtual machine, as root, on its real kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cleanup
from support.configfs import Backstore
from support.daemon import Daemon, Expectation, unexpected
from support.deadline import command, rescue
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback


def pytest_sessionstart() -> None:
    if not Path("/dev/virtio-ports/vm.agent").exists():
        pytest.exit("these tests change the kernel's state: run them in the machine, by ./dev test vm", 2)
    command("modprobe", "-a", "target_core_user", "tcm_loop", "iscsi_target_mod")


@pytest.fixture
def expectations() -> list[Expectation]:
    return []


@pytest.fixture
def expected_log(expectations: list[Expectation]) -> ExpectedLog:
    """Declares a warning or error that the test provokes: it must come, unless it is optional."""

    def expect(pattern: str, *, optional: bool = False) -> None:
        expectations.append(Expectation(pattern, optional))

    return expect


@pytest.fixture
def daemon(tmp_path: Path, expectations: list[Expectation]) -> Iterator[Daemon]:
    """Our daemon, running. In the end all LUNs and backstores go, it stops in order, and its log is quiet.

    A test that ends without a running daemon gets one back for the way out.
    """
    daemon = Daemon(tmp_path / "tcmu-runner.log")
    daemon.start()
    yield daemon
    try:
        if not daemon.running:
            daemon.start()
        cleanup.everything()
        daemon.stop()
    finally:
        print(daemon.end_by_force())
        print(daemon.text())
    assert not (found := unexpected(daemon.text(), expectations)), "\n".join(found)


@pytest.fixture(autouse=True)
def clean_slate() -> None:
    """Nothing of an earlier test, or of a person at the console, is in the way."""
    rescue()
    cleanup.everything()


@pytest.fixture
def make_backstore(daemon: Daemon) -> MakeBackstore:
    """Makes and enables a backstore; `vol0` is the first one's name, then `vol1`, …"""
    names = (f"vol{number}" for number in range(10_000))

    def make(config: str, size: int = 64 * MIB, **control: str | int) -> Backstore:
        backstore = Backstore.create(next(names), config, size, control=control)
        backstore.enable()
        return backstore

    return make


@pytest.fixture
def loopback() -> Loopback:
    return Loopback().create()
