"""`tcmu-runner doctor`: what is wrong, and the commands that put it right."""

from __future__ import annotations

import argparse
import sys

from tcmu_runner.cli.output import print_json
from tcmu_runner.cli.symptoms import Finding, Patient, examine
from tcmu_runner.engine.view import DeviceView
from tcmu_runner.settings.kept import coexistence

GREEN, RED, END = "\033[32m", "\033[1;31m", "\033[0m"


def run(options: argparse.Namespace) -> int:
    """0 when nothing is wrong, else 1."""
    findings = list(examine(Patient(_devices, lock=coexistence().lock)))
    wrong = [finding for finding in findings if not finding.fine]
    if options.json:
        print_json(findings)
    else:
        for finding in findings:
            print(_told(finding, coloured=sys.stdout.isatty()))
        if wrong:
            print(f"\n{len(wrong)} things are wrong; those above may be the cause of those below.")
        else:
            print("\nNothing is wrong.")
    return 1 if wrong else 0


def _devices() -> list[DeviceView]:
    """It, too, works where the library for D-Bus is missing."""
    from tcmu_runner.cli.asking import ask  # noqa: PLC0415

    return ask(lambda daemon: daemon.devices())


def _told(finding: Finding, *, coloured: bool) -> str:
    mark = "ok   " if finding.fine else "WRONG"
    if coloured:
        mark = f"{GREEN if finding.fine else RED}{mark}{END}"
    lines = [f"{mark} {finding.what}: {finding.told}"]
    lines += [f"      fix: {line}" for line in finding.fix]
    return "\n".join(lines)
