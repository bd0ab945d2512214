"""What a person sees while a command takes its time."""

import io
import json
import os
import pty
import subprocess
import sys
from contextlib import redirect_stdout

from tcmu_runner.cli.output import print_json, show, styled, table

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


ROWS = [["user_0/a\nb\udcf6", "serving"], ["user_1/" + "x" * 2000, styled("fail\x1bed", "red")]]


def printed(what: object) -> str:
    """To where only UTF-8 can be written, as to most terminals and files."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="utf-8") as out, redirect_stdout(out):
        show(what)
        out.flush()
        return raw.getvalue().decode()


def test_each_row_of_a_table_is_a_line_for_programs() -> None:
    """Whatever is in the name, and however long it is."""
    lines = printed(table(["NAME", "STATE"], ROWS)).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [r"user_0/a\nb\xf6", "serving"]
    assert lines[2].split() == ["user_1/" + "x" * 2000, r"fail\x1bed"]


def test_json_can_be_printed_and_read_whatever_is_in_it() -> None:
    """A name that is no UTF-8 as on D-Bus, where the same name comes from in other commands."""
    text = {"name": "gr\udcf6\u00dfe\n"}
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding="utf-8")
    with redirect_stdout(out):
        print_json(text)
    out.flush()
    assert json.loads(raw.getvalue()) == {"name": "gr\\xf6\u00dfe\n"}
