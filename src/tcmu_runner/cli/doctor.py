"""`tcmu-runner doctor`: prints what is wrong, and the commands that repair it."""

from __future__ import annotations

import argparse
import sys

from tcmu_runner.cli.diagnosis import examine
from tcmu_runner.cli.finding import Finding, Host
from tcmu_runner.cli.output import print_json
from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.printable import printable
from tcmu_runner.settings.kept import coexistence

ANSWER_SECONDS = 10.0  # a busy daemon answers sooner; a later answer counts as a hang
GREEN, RED, END = "\033[32m", "\033[1;31m", "\033[0m"


def run(options: argparse.Namespace) -> int:
    """0 when nothing is wrong, else 1."""
    findings = []
    for finding in examine(Host(_devices, lock=coexistence().lock, problems=_problems)):
        findings.append(finding)
        if not options.json:  # print at once: the next check may wait for an answer
            print(_told(finding, coloured=sys.stdout.isatty()), flush=True)
    wrong = [finding for finding in findings if not finding.fine]
    if options.json:
        print_json(findings)
    elif wrong:
        print(f"\n{len(wrong)} things are wrong; those above may be the cause of those below.")
    else:
        print("\nNothing is wrong.")
    return 1 if wrong else 0


def _devices() -> list[DeviceView]:
    """Imported here, so that `doctor` works without the library for D-Bus."""
    from tcmu_runner.cli.daemon_client import ask  # noqa: PLC0415

    return ask(lambda daemon: daemon.devices(), seconds=ANSWER_SECONDS)


def _problems() -> list[str]:
    from tcmu_runner.cli.daemon_client import ask  # noqa: PLC0415

    return ask(lambda daemon: daemon.problems(), seconds=ANSWER_SECONDS)


def _told(finding: Finding, *, coloured: bool) -> str:
    mark = "ok   " if finding.fine else "WRONG"
    if coloured:
        mark = f"{GREEN if finding.fine else RED}{mark}{END}"
    lines = [f"{mark} {printable(finding.what)}: {printable(finding.told)}"]
    lines += [f"      fix: {printable(line)}" for line in finding.fix]
    return "\n".join(lines)
