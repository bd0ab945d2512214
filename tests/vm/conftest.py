"""Fixtures of the tests that run inside the virtual machine, as root, on its real kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cleanup, plan
from support.configfs import Backstore
from support.daemon import Daemon, Expectation, unexpected
from support.deadline import command, rescue
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback
from support.lower_disk import LowerDisk


def pytest_sessionstart() -> None:
    if not Path("/host/checkout").is_mount():
        pytest.exit("these tests change the kernel's state: run them by ./dev test kernel", 2)
    command("modprobe", "-a", "target_core_user", "tcm_loop", "iscsi_target_mod")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="all of them, in QEMU, too")
    parser.addoption("--core", action="store_true", help="the core set, for any kernel")
    parser.addoption("--part", default="1/1", help="I/N: the I-th of N parts, by module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests of this machine, of the set and of the part that are asked for."""
    if config.option.core:
        kept = [item for item in items if plan.belongs(item, plan.CORE)]
    else:
        kept = [item for item in items if config.option.everything or plan.wanted(item)]
    modules = plan.part_of(sorted({item.path.name for item in kept}), config.option.part)
    kept = [item for item in kept if item.path.name in modules]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture
def expectations() -> list[Expectation]:
    return []


@pytest.fixture
def expected_log(expectations: list[Expectation]) -> ExpectedLog:
    """Declares a warning or error that the test provokes: it must come, unless it is optional."""

    def expect(pattern: str, *, optional: bool = False) -> None:
        expectations.append(Expectation(pattern, optional))

    return expect


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    """Command line options of the module's daemon; a module that needs some overrides this."""
    return ()


@pytest.fixture(scope="module")
def module_daemon(
    tmp_path_factory: pytest.TempPathFactory, daemon_arguments: tuple[str, ...]
) -> Iterator[Daemon]:
    """One daemon for the tests of a module, since its start takes seconds; it stops in order in the end."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon") / "tcmu-runner.log", *daemon_arguments)
    yield daemon
    try:
        daemon.stop()
    finally:
        daemon.end_by_force()


@pytest.fixture
def daemon(
    module_daemon: Daemon, expectations: list[Expectation], request: pytest.FixtureRequest
) -> Iterator[Daemon]:
    """Our daemon, running. In the end all LUNs and backstores go, and its log has been quiet.

    A test that ends without a running daemon gets one back for the way out. After a test that fails the next
    one gets a new daemon.
    """
    daemon, failed = module_daemon, request.session.testsfailed
    since = daemon.position
    if not daemon.running:
        daemon.start()
    yield daemon
    try:
        if not daemon.running:
            daemon.start()
        cleanup.everything()
    except BaseException:
        failed = -1
        raise
    finally:
        log = daemon.text(since)
        if request.session.testsfailed != failed:
            print(daemon.end_by_force())
        print(daemon.text(since))
    assert not (found := unexpected(log, expectations)), "\n".join(found)


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


@pytest.fixture
def lower(tmp_path: Path) -> Iterator[LowerDisk]:
    """A file system of 160 MiB whose disk does as it is told."""
    made = LowerDisk(tmp_path, 160 * MIB)
    yield made
    made.remove()
