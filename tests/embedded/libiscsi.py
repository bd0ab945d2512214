"""Running libiscsi's conformance suite, and reading what it says."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

TIME_OUT = 300
_SUITE = re.compile(r"^Suite: (\S+)")
_TEST = re.compile(r"^  Test: (\S+) \.\.\.")
_SKIPPED = re.compile(r"\[SKIPPED\] *(.*)")
_END = re.compile(r"(?:^|\s|\.\.\.)(passed|FAILED)\s*(?:$|\[)")
_ASSERTION = re.compile(r"^ +\d+\. \S+:\d+ +- ")
_TESTS = re.compile(r"^ +tests +(\d+) +(\d+) +(\d+) +(\d+)", re.MULTILINE)


@dataclass(slots=True)
class Report:
    """Of one run, tests by Suite.Test. failed: with what was printed. skipped: with the reason, the last one
    where a test gives several."""

    ran: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def run(*urls: str, tests: str = "ALL", dataloss: bool = True) -> Report:
    """Runs tests, FAMILY[.SUITE[.TEST]], against a LUN; with two URLs, the second is another path to it."""
    options = ["--verbose", "--allow-sanitize", *(["--dataloss"] if dataloss else []), f"--test={tests}"]
    done = subprocess.run(
        ["iscsi-test-cu", *options, *urls], capture_output=True, text=True, timeout=TIME_OUT, errors="replace"
    )
    summary = _TESTS.search(done.stdout)
    assert summary is not None, f"iscsi-test-cu did not come to its end: {done.stdout[-500:]} {done.stderr}"
    report = read(done.stdout)
    assert report.ran == int(summary[2]), "not all tests of the output were recognized"
    assert len(report.failed) == int(summary[4]), "not all failures of the output were recognized"
    return report


def read(output: str) -> Report:
    """What the verbose output says of each test."""
    report = Report()
    suite = name = failed = ""
    text: list[str] = []
    for line in output.splitlines():
        if found := _SUITE.match(line):
            suite = found[1]
        if found := _TEST.match(line):
            name, text = f"{suite}.{found[1]}", []
            report.ran += 1
            failed = ""
        text.append(line)
        if failed and _ASSERTION.match(line):  # which come after the verdict
            report.failed[failed] += f"\n{line}"
        if name and (found := _SKIPPED.search(line)):
            report.skipped[name] = found[1].strip()
        if name and (found := _END.search(line.removesuffix(" "))):
            if found[1] == "FAILED":
                report.failed[failed := name] = "\n".join(text[-12:])
            name = ""
    return report


def expected(path: Path, unit: str) -> dict[str, str]:
    """What a list names for a kind of unit: tests, each with the text that it prints."""
    found = {}
    for line in path.read_text().splitlines():
        kinds, _, rest = line.partition(" ")
        if line and not line.startswith("#") and unit in kinds.split(","):
            test, _, text = rest.strip().partition(" ")
            found[test] = text.strip()
    return found
