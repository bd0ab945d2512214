"""libiscsi's conformance suite, and what it says of each test."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from support.deadline import attempt

_SUITE = re.compile(r"^Suite: (\S+)")
_TEST = re.compile(r"^  Test: (\S+) \.\.\.")
_END = re.compile(r"(?:^|\.\.\.) *(passed|FAILED)")
_SUMMARY = re.compile(r"^ +tests +\d+ +(\d+) +(\d+) +(\d+) +\d+", re.MULTILINE)
REMEMBERED = 30  # lines of a test that fails


@dataclass
class Report:
    """Tests by Suite.Test. failed: with what was printed last. skipped: those that say so."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{len(self.passed)} passed, {len(self.skipped)} skipped, {len(self.failed)} failed"


def run(*urls: str, tests: str, seconds: float) -> Report:
    """tests: FAMILY[.SUITE[.TEST]], several with commas. With two URLs, the second is another path."""
    ended = attempt("iscsi-test-cu", "-d", "-v", "-S", "-V", "-t", tests, *urls, seconds=seconds)
    summary = _SUMMARY.search(ended.output)
    assert summary, f"{ended.line}: did not come to its end: {ended.output[-2000:]}{ended.errors}"
    report = read(ended.output)
    ran, passed, failed = map(int, summary.groups())
    assert (len(report.passed | report.skipped), len(report.failed)) == (passed, failed), (
        "output not understood"
    )
    assert ran, f"there are no tests {tests}"
    return report


def read(output: str) -> Report:
    """What verbose output says of each test."""
    report, suite, test = Report(), "", ""
    lines: list[str] = []
    for line in output.splitlines():
        if found := _SUITE.match(line):
            suite = found[1]
        if found := _TEST.match(line):
            test, lines = f"{suite}.{found[1]}", []
        lines.append(line)
        if test and (found := _END.search(line)):
            _enter(report, test, found[1], lines)
            test = ""
    return report


def _enter(report: Report, test: str, verdict: str, lines: list[str]) -> None:
    if verdict == "FAILED":
        report.failed[test] = "\n".join(lines[-REMEMBERED:])
    elif any("[SKIPPED]" in line for line in lines):
        report.skipped.add(test)
    else:
        report.passed.add(test)


def expected(path: Path) -> dict[str, str]:
    """Tests and reasons, a line each, out of a list."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {test: reason.strip() for test, _, reason in (line.partition(" ") for line in lines)}
