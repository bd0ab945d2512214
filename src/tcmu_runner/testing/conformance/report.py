"""What a handler's author reads: one line for each check."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """The value is the word in the report."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """name: of the check. text: the rule that was kept; or what was wrong, and the way out; or why there was
    nothing to check."""

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """title: the handler. results: in the order of the checks. `str` of it is for people."""

    title: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """No check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        return self._with(Outcome.FAILED)

    def _with(self, outcome: Outcome) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.outcome is outcome)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self._with(outcome))} {outcome.value.lower()}" for outcome in Outcome)
        width = max((len(result.name) for result in self.results), default=0)
        lines = (f"{line.outcome.value:<15} {line.name:<{width}}  {line.text}" for line in self.results)
        return "\n".join((f"{self.title}: {counts}", *lines))
