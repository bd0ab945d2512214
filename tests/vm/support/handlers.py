"""Handlers that break on purpose, where root runs them: a checkout may be another user's."""

from pathlib import Path
from shutil import copyfile

SOURCE = Path(__file__).parents[1] / "handlers"
COPY = Path("/run/tcmu-test-handlers")


def handler_path() -> tuple[str, str]:
    """The daemon's arguments for tests/vm/handlers."""
    COPY.mkdir(mode=0o755, exist_ok=True)
    for file in SOURCE.glob("*.py"):
        copyfile(file, COPY / file.name)
        (COPY / file.name).chmod(0o644)
    return "--handler-path", str(COPY)
