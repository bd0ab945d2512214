"""What every unit test shares: quiet logs are part of the contract, and time is not asserted."""

import gc
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Tests start many processes: where the environment has no bytecode written, each would compile everything.
sys.pycache_prefix = str(Path(__file__).parents[2] / ".pytest_cache/bytecode")
sys.dont_write_bytecode = False
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Nothing is installed while tests run, and to look through all packages takes milliseconds each time. Done
# before our modules are imported: they take the function by its name.
pytest.MonkeyPatch().setattr(importlib.metadata, "entry_points", cache(importlib.metadata.entry_points))

from tcmu_runner.kernel.paths import Paths  # noqa: E402

# A busy machine draws and writes slowly: `deadline` and `too_slow` would decide by the clock.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Debian 13 has a dbus-fast whose constructor connects: one that fails leaves its socket to the garbage
    collector, out of our reach."""
    if int(importlib.metadata.version("dbus-fast").partition(".")[0]) < 3:
        left = "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", left)


def pytest_collection_finish() -> None:
    """What is there by now stays. To look through it took each garbage collection 70 ms, and the conformance
    kit makes several."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test that logs a warning or worse; one that expects it looks at caplog, then clears it."""
    yield
    loud = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and record.name.startswith("tcmu_runner")
    ]
    assert not loud, "logged, and the test did not expect it"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The kernel's directories, empty, below the test's own."""
    return Paths.under(tmp_path)
