"""Where LIO writes persistent reservations that survive a loss of power (APTPL)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.configfs import TARGET, show


@contextmanager
def registrations() -> Iterator[Path]:
    """The directory, for the time of the block; without it every REGISTER fails (Device not ready)."""
    directory = Path(show(TARGET / "dbroot")) / "pr"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield directory
    finally:
        for kept in directory.glob("aptpl_*"):
            kept.unlink()
