"""One set-up for all scenarios: a backend, and a LUN on it that a process of its own serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "servers"))

from harness.backend import Backend
from harness.case import Case, all_cases
from harness.served import Served


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each scenario with each case that it applies to."""
    if "case" in metafunc.fixturenames:
        scenario = metafunc.function.__name__.removeprefix("test_")
        cases = [case for case in all_cases() if scenario not in case.without]
        if scenario == "contract":  # the kit is for handlers; the tests of filters run it on stacks
            plain = Backend.settings
            cases = [case for case in cases if getattr(case.make, "settings", plain) is plain]
        metafunc.parametrize("case", [
            pytest.param(
                case, id=case.name, marks=[pytest.mark.xdist_group(case.shared)] if case.shared else []
            )
            for case in cases
        ])  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails tells how its backend was."""
    report = yield
    backend = getattr(item, "funcargs", {}).get("backend")
    if report.failed and backend is not None:
        report.sections.append(("backend", backend.state()))
    return report


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The backend's own."""
    made = tmp_path / "backend"
    made.mkdir()
    return made


@pytest.fixture
def narrow(case: Case, directory: Path) -> Iterator[None]:
    """The backend's directory is a small file system."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={case.room}", "none", directory], check=True)
    yield
    subprocess.run(["umount", directory], check=True)


@pytest.fixture
def backend(case: Case, directory: Path) -> Iterator[Backend]:
    made = case.make(directory, case.size)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def served(tmp_path: Path, case: Case, backend: Backend) -> Iterator[Served]:
    """Ends well, and has logged nothing that its test does not know of."""
    lun = Served(tmp_path, case, backend)
    lun.start()
    yield lun
    lun.stop()
    assert lun.unexpected() == []
