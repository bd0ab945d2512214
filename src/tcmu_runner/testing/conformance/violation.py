"""What a check ends with when the handler broke its rule, or when there is nothing to check."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError
from tcmu_runner.testing.conformance.callers import AsyncInPlaceError, HungError, NotAsyncError


class BreachError(Exception):
    """The handler broke the rule being checked. why: what happened. way_out: what its author can do."""

    def __init__(self, why: str, way_out: str) -> None:
        super().__init__(f"{why}: {way_out}")


class NotApplicableError(Exception):
    """There is nothing to check; the text says why."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns whatever a call of the handler raises into a BreachError that says what was called, and where."""
    try:
        yield
    except (BreachError, NotApplicableError, HungError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BreachError(f"{what} {_raised(error)}", _way_out(error)) from error


def _raised(error: BaseException) -> str:
    if isinstance(error, NotAsyncError):
        return "returned nothing to await"
    if isinstance(error, AsyncInPlaceError):
        return "returned a coroutine"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} ({error}) at {Path(frame.filename).name}:{frame.lineno}"


def _way_out(error: BaseException) -> str:
    match error:
        case NotAsyncError():
            return "define it with async def"
        case AsyncInPlaceError():
            return "subclass AsyncHandler, or make it a plain def"
        case NotImplementedError():
            return "implement it, or do not offer it"
        case OSError() | ScsiError() | ScsiStatusError():
            return "the storage must work while it is checked, and be as large as the check is told"
        case _:
            return "it is a bug; what storage refuses is raised as OSError"
