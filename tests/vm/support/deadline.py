"""Actions that the kernel may put to sleep for ever (D state): in other processes, with a deadline.

The test fails, with the kernel's stack of the sleeper, and the machine stays usable: waits for a netlink
reply are ended through target_core_user's module parameters, as an administrator would.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import ParamSpec, TextIO

PARAMETERS = Path("/sys/module/target_core_user/parameters")
WITHOUT_REAPING = os.WEXITED | os.WNOHANG | os.WNOWAIT
GENEROUS = 120.0  # seconds; what takes longer is stuck, however busy the machine is
SAID = 1000  # characters of what a stuck command said
P = ParamSpec("P")


class StuckError(AssertionError):
    """Something did not end in time."""


class CommandError(AssertionError):
    """A command ended with a status other than 0; the text has its output."""


def within(seconds: float, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Calls `action` in another process, whose exception is raised here (errno and all), or StuckError. Any
    thread may call it. All of it has to be something that can be pickled."""
    helper = _idle.pop() if _idle else _Helper()
    helper.calls.send((action, args, kwargs))
    if not helper.calls.poll(seconds):
        outlook = _give_up(helper.pid, lambda: os.waitid(os.P_PID, helper.pid, WITHOUT_REAPING) is not None)
        raise StuckError(f"{action.__qualname__}{args} not done in {seconds:g} s; {outlook}")
    failure: Exception | None = helper.calls.recv()
    _idle.append(helper)
    if failure is not None:
        raise failure


class _Helper:
    """A process that makes calls for `within`, one after another: a fork for each costs 28 ms in user-mode
    Linux. It has nothing open but its pipe, and ends when that is closed."""

    def __init__(self) -> None:
        self.calls, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            _serve(theirs)
        theirs.close()


_idle: list[_Helper] = []


def _serve(calls: Connection) -> None:
    """The helper process: never returns."""
    try:
        while True:
            action, args, kwargs = calls.recv()
            failure = None
            try:
                action(*args, **kwargs)
            except Exception as error:  # whatever it is, the caller raises it
                failure = error
            calls.send(failure)
    finally:  # EOFError: the caller has ended
        os._exit(0)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    line: str
    status: int
    output: str
    errors: str


def command(*argv: str | Path, seconds: float = GENEROUS) -> str:
    """Runs a command and returns its standard output. CommandError, StuckError."""
    ended = attempt(*argv, seconds=seconds)
    if ended.status != 0:
        raise CommandError(f"{ended.line}: exit status {ended.status}\n{ended.output}{ended.errors}")
    return ended.output


def attempt(*argv: str | Path, seconds: float = GENEROUS) -> Ended:
    """Runs a command that may fail. StuckError."""
    line = " ".join(map(str, argv))
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            list(map(str, argv)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            outlook = _give_up(process.pid, lambda: process.poll() is not None)
            said = (_whole(output) + _whole(errors))[-SAID:]
            raise StuckError(f"{line} not done in {seconds:g} s; it said last: {said}\n{outlook}") from None
        return Ended(line, status, _whole(output), _whole(errors))


@contextmanager
def background(*argv: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs beside the block, without output; it does not outlive the block."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        list(map(str, argv)), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills it with its children, if it still runs. One that sleeps in the kernel is left there."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GENEROUS)


def _whole(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def eventually(what: str, condition: Callable[[], bool], seconds: float = GENEROUS) -> None:
    """Waits for `condition`. StuckError says `what` did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StuckError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def rescue() -> None:
    """Ends every wait for a netlink reply with EINTR: what an administrator does when the daemon does not."""
    for name, value in (("block_netlink", "1"), ("reset_netlink", "1"), ("block_netlink", "0")):
        (PARAMETERS / name).write_text(value)


def kernel_stack(pid: int) -> str:
    """Where in the kernel a process sleeps."""
    try:
        return f"the kernel's stack:\n{Path(f'/proc/{pid}/stack').read_text()}"
    except OSError as error:
        return f"no kernel stack: {error}"


def _give_up(pid: int, ended: Callable[[], bool]) -> str:
    """Ends a process of ours that is late, by the rescue if need be. Returns what a person wants to know."""
    stack = kernel_stack(pid)
    os.kill(pid, signal.SIGKILL)
    if _soon(ended):
        return stack
    if PARAMETERS.exists():
        rescue()
    return f"the rescue {'freed it' if _soon(ended) else 'did not free it'}; {stack}"


def _soon(ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 3
    while not ended() and time.monotonic() < deadline:
        time.sleep(0.02)
    return ended()
