"""A tcmu-runner that the test starts, stops and kills, and what it logs."""

import os
import re
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.deadline import GENEROUS, StuckError, eventually, kernel_stack

READY = r"\d+ handlers found"
COMPLAINT = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]|^Traceback|Warning: |^Fatal Python error")


class Daemon:
    """At most one runs at a time. Its log is one file over all starts."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self.arguments = ["tcmu-runner", *arguments]
        self.process: subprocess.Popen[bytes] | None = None
        self._started_at = 0

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon has not been started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Returns when it has found its handlers and devices."""
        self.launch()
        self.wait_for_log(READY, since=self._started_at)

    def launch(self) -> None:
        """Only starts the process."""
        assert not self.running
        with self.log.open("ab") as log:
            self._started_at = log.tell()
            self.process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},  # SIGABRT then tells what each thread does
                start_new_session=True,
            )

    def stop(self) -> None:
        """The administrator's stop. It must end with status 0; if it does not end, it is made to."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            status = self.process.wait(GENEROUS)
        except subprocess.TimeoutExpired:
            raise StuckError(f"the daemon does not stop; {self.end_by_force()}\n{self.text()}") from None
        self.process = None
        assert status == 0, f"the daemon ended with status {status}; its log:\n{self.text()}"

    def kill(self) -> None:
        """SIGKILL, to the daemon's first process alone; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(GENEROUS)
        self.process = None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end_by_force(self) -> str:
        """Ends it and its children, if it runs. Its log gets all Python stacks; returns the kernel's."""
        if self.process is None:
            return ""
        stack = kernel_stack(self.pid)
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGABRT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            stack += "; SIGABRT does not end it either"
        with suppress(ProcessLookupError):  # nobody of them is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
        return stack

    @property
    def position(self) -> int:
        """How many bytes the log has now: `since` for what comes after."""
        return self.log.stat().st_size if self.log.exists() else 0

    def text(self, since: int = 0) -> str:
        return self.log.read_bytes()[since:].decode(errors="replace") if self.log.exists() else ""

    def wait_for_log(self, pattern: str, *, since: int = 0) -> "re.Match[str]":
        """Waits until a line after the first `since` bytes matches. Fails when the daemon has died."""

        def found() -> bool:
            ended = not self.running
            return bool(self._search(pattern, since)) or ended

        try:
            eventually(f"/{pattern}/ in the daemon's log", found)
        except StuckError as error:
            raise StuckError(f"{error}:\n{self.text()}") from None
        match = self._search(pattern, since)
        assert match, f"the daemon ended without /{pattern}/ in its log:\n{self.text()}"
        return match

    def _search(self, pattern: str, since: int) -> "re.Match[str] | None":
        return re.search(pattern, self.text(since), re.MULTILINE)


@dataclass(frozen=True)
class Expectation:
    """A complaint in the log that a test provokes."""

    pattern: str
    optional: bool = False


def unexpected(log: str, expectations: Iterable[Expectation]) -> list[str]:
    """Complaints that nobody expects, and expectations that nothing met: what a quiet log must not have."""
    expectations = list(expectations)
    complaints = [line for line in log.splitlines() if COMPLAINT.search(line)]
    strangers = [line for line in complaints if not any(re.search(e.pattern, line) for e in expectations)]
    required = [e.pattern for e in expectations if not e.optional]
    unmet = [pattern for pattern in required if not re.search(pattern, log, re.MULTILINE)]
    return [f"unexpected: {line}" for line in strangers] + [f"expected, but absent: {p}" for p in unmet]
