"""What a person sees while a command takes its time."""

import os
import pty
import subprocess
import sys

WAITING = """
from tcmu_runner.cli.output import progress
with progress("opening [vol0]") as tell:
    tell("waiting for /dev/[sda]")
print("done")
"""


def test_a_terminal_shows_what_is_waited_for() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    program = [sys.executable, "-c", WAITING]
    done = subprocess.run(
        program, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stdout == "done\n"
    assert "waiting for /dev/[sda]" in shown
    assert "0:00:00" in shown


def test_who_is_no_terminal_sees_nothing_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
