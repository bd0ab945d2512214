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


def attach(path: Path) -> None:
    """Connects this terminal with the console socket until the guest ends or the user leaves with Ctrl-]."""
    with socket.socket(socket.AF_UNIX) as console, raw_terminal():
        console.connect(str(path))
        rows, columns = terminal_size()
        console.sendall(f"stty rows {rows} columns {columns}; clear\r".encode())
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


def terminal_size() -> tuple[int, int]:
    """Rows and columns: a serial line does not tell the guest."""
    try:
        size = os.get_terminal_size()
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80
