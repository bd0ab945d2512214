"""Our `file` against the C daemon and the kernel's own fileio, all in one boot of the virtual machine."""

import json

from benchmarks import report
from vm import job
from vm.cli import fresh
from vm.host import VmError, say

ROUNDS = 5
SECONDS = 4.0
TURN_SECONDS = 120.0  # much more than setting up and tearing down an arm takes
PYTHON = "/opt/tcmu-runner/bin/python"


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    """Boots, measures, keeps the rows. Returns the exit status."""
    return in_guest("vm", "benchmarks.guest", rounds, seconds, 5 * (TURN_SECONDS + 6 * seconds), keep=keep)


def in_guest(
    kind: str, module: str, rounds: int, seconds: float, patience: float, *arms: str, keep: bool
) -> int:
    """A module that prints progress and a table, and leaves its rows in a file: `MODULE ROUNDS SECONDS ROWS`.
    patience: seconds for a round."""
    guest = ["env", "PYTHONPATH=tests/vm", PYTHON, "-m", module]
    timeout = rounds * patience
    try:
        with fresh("benchmark") as machine:
            rows = machine.share / "rows.json"
            arguments = [str(rounds), str(seconds), f"/host/share/{rows.name}", *arms]
            status = job.run(machine, [*guest, *arguments], timeout)
    except VmError as error:
        say(f"error: {error}")
        return 1
    if status == 0 and keep:
        say(f"kept in {report.keep(kind, json.loads(rows.read_text()))}")
    return status
