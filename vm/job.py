"""A command in a machine with the verdict on it: its exit status, and whether the kernel took harm."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vm import host, install, session
from vm.machine import Machine

KERNEL_COMPLAINED = 125
GUEST_GONE = 126
PASSED_ON = "TCMU_TEST_"


def run(
    machine: Machine, argv: Sequence[str], timeout: float, output: session.Output = session.to_terminal
) -> int:
    """Runs `argv` in the guest's copy of the tree, output live and to output.log. Returns its status.

    The tests' own variables are those of the host, TCMU_TEST_WORKER_KILLS=100 and the like.

    A kernel that complained on the console (a BUG, an oops, a hung task) makes a success a failure.
    """
    seen = len(machine.console_log)
    with (machine.out / "output.log").open("ab") as log:

        def keep(stream: str, data: bytes) -> None:
            log.write(data)
            output(stream, data)

        try:
            outcome = machine.run([*environment(), *argv], timeout=timeout, output=keep, cwd=install.SOURCE)
        except session.GuestGoneError as error:
            outcome = session.Outcome(GUEST_GONE, str(error))
    status = verdict(outcome, machine.complaints(since=seen))
    if status != 0:
        explain(outcome, machine, seen)
    return status


def environment() -> list[str]:
    """The words before a command that give it what it takes from here."""
    return ["env", *(f"{name}={value}" for name, value in os.environ.items() if name.startswith(PASSED_ON))]


def verdict(outcome: session.Outcome, complaints: list[str]) -> int:
    return outcome.status or (KERNEL_COMPLAINED if complaints else 0)


def explain(outcome: session.Outcome, machine: Machine, seen: int) -> None:
    """Tells a person what went wrong and where the evidence lies."""
    if outcome.note:
        host.say(outcome.note)
    if complaints := machine.complaints(since=seen):
        host.say("the guest's kernel complained:\n  " + "\n  ".join(complaints[:20]))
    if outcome.status == GUEST_GONE:
        host.say("the console ended with:\n  " + "\n  ".join(last_lines(machine.out / "console.log")))
    host.say(f"the logs are in {machine.out}: output.log, console.log, share/journal.log")


def last_lines(path: Path, count: int = 30) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", path.read_text(errors="replace"))
    return text.splitlines()[-count:]
