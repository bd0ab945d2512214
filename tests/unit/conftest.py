"""What every unit test shares: quiet logs are part of the contract, and time is not asserted."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")


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
