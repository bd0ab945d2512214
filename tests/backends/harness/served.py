"""The process that serves a LUN."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from namespace import entered, inside

from harness.backend import Backend
from harness.case import Case
from harness.lun import Lun

PROGRAM = Path(sys.executable).with_name("tcmu-runner")
STOP_SECONDS = 60.0
_URL = re.compile(r"^  (iscsi://\S+)$")


HELD_UP = r"storage has not answered a command for \d+ s"


class Served:
    """`start` it, `connect` to it; `stop` ends it well, `kill` does not. The port stays the same.

    expected: patterns of lines that it may log.
    """

    def __init__(self, directory: Path, case: Case, backend: Backend) -> None:
        self.case = case
        self.url = ""
        self.expected: tuple[str, ...] = ()
        self._backend = backend
        self._log = directory / "tcmu-runner.log"
        self._settings = directory / "settings.toml"
        self._settings.write_text(backend.settings)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it can be reached."""
        port = self.url.split("/")[2].rpartition(":")[2] if self.url else "0"
        subtype, _, rest = self._backend.config.partition("/")
        case = self.case
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *inside(self._backend.namespace), str(PROGRAM), "try", subtype, rest, "--port", port,
                    "--size", str(case.size), "--block-size", str(case.block_size),
                    "--settings", str(self._settings),
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"},  # SIGABRT shows what all threads do
            )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := _URL.match(line):
                self.url = found[1]
                return
        self._end()
        raise AssertionError(f"{self._backend.config} is not served: {self._log.read_text()}")

    @property
    def namespace(self) -> str:
        """Of the network in which it can be reached."""
        return self._backend.namespace

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def connect(self) -> Lun:
        with entered(self._backend.namespace):
            return Lun(self.url)

    def kill(self) -> None:
        """SIGKILL. Sessions lose their target."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            status = self._end()
            assert status == 0, f"it ended with status {status}: {self._log.read_text()}"

    def _end(self) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait()
            raise AssertionError(f"it does not end: {self._log.read_text()}") from None
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def unexpected(self) -> list[str]:
        """Lines of its log that are not expected; a storage that a test takes away may be away for long."""
        lines, known = self._log.read_text().splitlines(), (*self.expected, HELD_UP)
        return [line for line in lines if not any(re.search(pattern, line) for pattern in known)]
