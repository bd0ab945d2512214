"""The medium of a unit: whether commands may access it, and the sense if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcmu_runner.scsi.sense import INITIALIZING_COMMAND_REQUIRED, MEDIUM_NOT_PRESENT, Sense

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Nexus


@dataclass(slots=True)
class MediumJob:
    """A FORMAT UNIT or SANITIZE under way. done and total: bytes.

    in_progress: the sense of other commands meanwhile. failure: their sense if it fails, until another job
    succeeds or, with allows_exit, an initiator exits the failure mode.
    """

    in_progress: Sense
    failure: Sense
    total: int
    done: int = 0
    allows_exit: bool = False


def _nothing() -> None:
    """For a medium without a record of its state."""


@dataclass(slots=True)
class Medium:
    """ready: commands may access it; usually the only thing that they check. changed: called after each
    change, on the thread that made it."""

    ready: bool = True
    stopped: bool = False
    ejected: bool = False
    job: MediumJob | None = None
    failed: MediumJob | None = None
    prevented_by: set[Nexus] = field(default_factory=set)
    changed: Callable[[], None] = _nothing

    def obstacle(self) -> Sense | None:
        """The sense that refuses commands that need the medium; None if they are allowed."""
        if self.job is not None:
            return self.job.in_progress.with_progress(self.job.done, self.job.total)
        if self.ejected:
            return MEDIUM_NOT_PRESENT
        if self.stopped:
            return INITIALIZING_COMMAND_REQUIRED
        return self.failed.failure if self.failed is not None else None

    @property
    def idle(self) -> bool:
        """Whether a job can begin: also after a failed job, which makes the medium unusable for others."""
        return not (self.job or self.ejected or self.stopped)

    def begin(self, job: MediumJob) -> None:
        self.job, self.failed = job, None
        self._settle()

    def end(self, failed: MediumJob | None = None) -> None:
        """The job has ended. failed: the job itself if it did not succeed."""
        self.job, self.failed = None, failed
        self._settle()

    def power(self, *, on: bool) -> None:
        """START STOP UNIT without LOEJ."""
        self.stopped = not on
        self._settle()

    def load(self, *, inserted: bool) -> None:
        """START STOP UNIT with LOEJ."""
        self.ejected, self.stopped = not inserted, False
        self._settle()

    def prevent(self, nexus: Nexus) -> None:
        """PREVENT ALLOW MEDIUM REMOVAL: no ejection while any nexus prevents it."""
        self.prevented_by.add(nexus)
        self.changed()

    def allow(self, nexus: Nexus) -> None:
        self.prevented_by.discard(nexus)
        self.changed()

    def _settle(self) -> None:
        self.ready = self.idle and self.failed is None
        self.changed()
