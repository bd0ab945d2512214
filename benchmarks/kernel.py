"""Our `file` against the C daemon and the kernel's own fileio, on several kernels: one boot of each.

User-mode Linux makes system calls and switches dear, QEMU makes bytecodes dear. Real hardware lies
between, so a figure counts where both agree.
"""

import json
from typing import Any

from benchmarks import report
from vm import job
from vm.cli import fresh
from vm.host import VmError, say
from vm.kinds import QEMU

ROUNDS = 5
SECONDS = 2.0
TURN_SECONDS = 120.0  # much more than setting up and tearing down an arm takes
PYTHON = "/opt/tcmu-runner/bin/python"
MACHINES = ("uml-6.1", "uml-7.2", QEMU)
ARMS = ("fileio", "c", "ours")


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    """Boots one machine after another, measures, keeps the rows. A machine that does not run on this host is
    left out. Returns the exit status: 1 when one is missing."""
    found: list[dict[str, Any]] = []
    missing = []
    patience = len(ARMS) * 2 * (TURN_SECONDS + 6 * seconds)  # each arm is traced once, besides
    for machine in MACHINES:
        rows = measured(machine, "benchmarks.guest", rounds, seconds, patience, *ARMS)
        if rows is None:
            missing.append(machine)
            continue
        found += [{"machine": machine, **row} for row in rows]
    print(report.by_machine(found))
    if keep:
        say(f"kept in {report.keep('kernel', found)}")
    if missing:
        say(f"not measured: {', '.join(missing)}")
    return bool(missing)


def in_guest(
    kind: str, module: str, rounds: int, seconds: float, patience: float, *arms: str, keep: bool
) -> int:
    """One kind of benchmark on QEMU alone; see `measured`. Returns the exit status."""
    rows = measured(QEMU, module, rounds, seconds, patience, *arms)
    if rows is not None and keep:
        say(f"kept in {report.keep(kind, rows)}")
    return rows is None


def measured(
    machine: str, module: str, rounds: int, seconds: float, patience: float, *arms: str
) -> list[dict[str, Any]] | None:
    """The rows of a module that prints progress and a table, and leaves its rows in a file: `MODULE ROUNDS
    SECONDS ROWS ARM...`. None when it failed. patience: seconds for a round."""
    guest = ["env", "PYTHONPATH=tests/vm", PYTHON, "-m", module]
    try:
        with fresh("benchmark", machine) as booted:
            rows = booted.share / "rows.json"
            arguments = [str(rounds), str(seconds), f"/host/share/{rows.name}", *arms]
            if job.run(booted, [*guest, *arguments], rounds * patience) == 0:
                found: list[dict[str, Any]] = json.loads(rows.read_text())
                return found
    except VmError as error:
        say(f"error: {error}")
    return None
