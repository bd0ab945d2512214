"""Runs what documentation shows: its `console` blocks, in one shell, and compares what they print.

A line that begins with `$ ` or `# ` is a command, lines with `> ` (or a bare `>`) go on with it, and all
others are its output. In those `...` stands for anything; a line `...` for any lines. Output that is not
shown is not compared, but every command has to end with status 0.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BEGIN, END = "\x1e", "\x1f"


@dataclass
class Step:
    """A command, and the lines that are shown of its output."""

    command: str
    shown: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for block in BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith(("$ ", "# ")):
                found.append(Step(line[2:]))
            elif line == ">" or line.startswith("> "):
                found[-1].command += "\n" + line[2:]
            else:
                found[-1].shown.append(line)
    return found


def run(page: Path, directory: Path, seconds: float = 150) -> list[str]:
    """All that is not as the page says; nothing when all is well."""
    todo = steps(page.read_text())
    assert todo, f"{page} shows no commands"
    script = "\n".join(_lines(todo))
    with tempfile.TemporaryFile("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            shell.wait(seconds)
        except subprocess.TimeoutExpired:  # what it has printed tells where it stands
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        output.seek(0)
        return list(_complaints(todo, output.read()))


def _lines(todo: list[Step]) -> Iterator[str]:
    for step in todo:
        yield f"printf '\\n{BEGIN}'"
        yield step.command
        yield f"printf '{END}%s\\n' $?"


def _complaints(todo: list[Step], output: str) -> Iterator[str]:
    answers = output.split("\n" + BEGIN)[1:]
    for step, answer in zip(todo, answers, strict=False):
        text, _, status = answer.rpartition(END)
        if status.strip() != "0":
            yield f"$ {step.command}\nended with status {status.strip() or 'unknown'}:\n{answer}"
        elif not re.search(_pattern(step.shown), "\n" + text.rstrip("\n") + "\n"):
            yield f"$ {step.command}\nis shown to print\n" + "\n".join(step.shown) + f"\nbut printed\n{text}"
    if len(answers) < len(todo):
        yield f"the shell ended before: {todo[len(answers)].command}"


def _pattern(shown: list[str]) -> str:
    lines = [r"(.*\n)*" if line == "..." else _line(line) for line in shown]
    return r"\n" + "".join(lines) if shown else ""


def _line(line: str) -> str:
    """Tables are as wide as their content: beside `...` blanks do not count."""
    parts = line.split("...")
    if len(parts) == 1:
        return re.escape(line) + r" *\n"
    return " *" + ".*".join(re.escape(part.strip(" ")) for part in parts) + r" *\n"
