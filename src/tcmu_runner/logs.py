"""Where the log goes: standard error, and a file that all processes of the daemon write to."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tcmu_runner.printable import printable

FILE_NAME = "tcmu-runner.log"
FORMAT = "%(asctime)s %(process)d [%(levelname)s] %(message)s"
COMMANDS = 5  # below logging.DEBUG: each SCSI command
# log_level of tcmu.conf, 0 to 5
LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, COMMANDS)

log = logging.getLogger(__name__)


class _Lines(logging.Formatter):
    """Makes each message one line, escaping what device names may contain: no name can forge a log line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        record.message = printable(record.message)
        return super().formatMessage(record)


class _File(logging.Handler):
    """Writes each message with one write(2), so that lines of several processes do not mix. If it fails,
    reports that once on standard error, and counts the lost messages."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lost = 0
        self._torn = False  # whether a partial write left the last line without its newline
        self.trouble = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # arguments that do not fit the message
            self.handleError(record)
            return
        try:
            self._write(f"{line}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self._failed(error)
        else:
            self._worked()

    def _write(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        while data:
            data = data[os.write(self._descriptor, data) :]
            self._torn = bool(data)

    def _failed(self, error: OSError) -> None:
        self._lost += 1
        if not self.trouble:
            self.trouble = f"the log cannot be written: {error.strerror}: free space, or correct log_dir"
            with suppress(OSError, ValueError):
                print(f"process {os.getpid()}: {self.trouble}", file=sys.stderr, flush=True)

    def _worked(self) -> None:
        lost, self._lost, self.trouble = self._lost, 0, ""
        if lost:
            log.warning("the log can be written again: lost %d messages of this process", lost)


class _StandardError(logging.StreamHandler[TextIO]):
    """Ignores write errors: logging would print a traceback to the same broken stream."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class Logs:
    """The root logger of this process and of those that it forks.

    The log file keeps its descriptor's number: a process that has dropped its privileges receives a new file
    from one that has not, and only makes its own descriptor refer to it (dup2(2)).
    """

    def __init__(self) -> None:
        logging.addLevelName(COMMANDS, "COMMAND")
        self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._file = _File(self._descriptor)
        outputs: list[logging.Handler] = [_StandardError(sys.stderr), self._file]
        for output in outputs:
            output.setFormatter(_Lines(FORMAT))
        logging.basicConfig(handlers=outputs)

    def fileno(self) -> int:
        return self._descriptor

    @property
    def trouble(self) -> str:
        """Why the file cannot be written now; empty if it can."""
        return self._file.trouble

    @property
    def level(self) -> int:
        return logging.getLogger().level

    def set_level(self, level: int) -> None:
        """One of LEVELS."""
        logging.getLogger().setLevel(level)

    def write_to(self, directory: Path) -> None:
        """Logs to FILE_NAME in this directory from now on. Raises OSError: the old file stays in use."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(directory / FILE_NAME, flags, 0o600)
        self.follow(descriptor)

    def follow(self, descriptor: int) -> None:
        """Logs to a file that another process has opened; closes `descriptor`."""
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
