"""The guest's serial console: what the kernel complains of, and a person's way in."""

import contextlib
import os
import re
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

LEAVE = b"\x1d"  # Ctrl-]

# What a healthy kernel never prints. A lockup or hung task is as much a failure as a crash.
COMPLAINTS = re.compile(
    r"BUG: |kernel BUG at|Oops: |Kernel panic|general protection fault|WARNING: CPU: |page allocation failure"
    r"|INFO: task .* blocked for more than|self-detected stall|detected stalls on|refcount_t: "
)


def complaints(log: bytes) -> list[str]:
    """Lines of a console log that tell of a fault in the kernel."""
    return [line for line in log.decode(errors="replace").splitlines() if COMPLAINTS.search(line)]


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the guest; a terminal is restored at the end, other kinds of stdin are left alone."""
    if not sys.stdin.isatty():
        yield
        return
    saved = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def follow(path: Path) -> None:
    """Copies what the console socket says to stdout, until the guest ends."""
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(path))
        while data := console.recv(4096):
            os.write(sys.stdout.fileno(), data.replace(b"\r\n", b"\n"))


def attach(path: Path, command: str = "") -> None:
    """Connects this terminal with the console socket until the guest ends or the user leaves with Ctrl-].

    `command` is what the shell there is given first.
    """
    with socket.socket(socket.AF_UNIX) as console, raw_terminal():
        console.connect(str(path))
        console.sendall(command.encode())
        while True:
            ready, _, _ = select.select([console, sys.stdin], [], [])
            if console in ready:
                if not (data := console.recv(4096)):
                    return
                os.write(sys.stdout.fileno(), data)
            if sys.stdin in ready:
                keys = os.read(sys.stdin.fileno(), 4096)
                console.sendall(keys.partition(LEAVE)[0])
                if LEAVE in keys or not keys:
                    return


def terminal_size() -> str:
    """The shell command that tells the guest the size of this terminal: a serial line does not."""
    try:
        size = os.get_terminal_size()
    except OSError:
        size = os.terminal_size((80, 24))
    return f"stty rows {size.lines or 24} columns {size.columns or 80}; clear\r"
