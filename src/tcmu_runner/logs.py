"""Where the log goes: standard error, and a file that all processes of the daemon write to."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

FILE_NAME = "tcmu-runner.log"
FORMAT = "%(asctime)s %(process)d [%(levelname)s] %(message)s"
COMMANDS = 5  # below logging.DEBUG: each SCSI command
# log_level of tcmu.conf, 0 to 5
LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, COMMANDS)


class Log:
    """The root logger of this process, and of those that it forks.

    The file keeps its descriptor's number while what it refers to changes: a process that has given up its
    privileges gets a new file from one that has not, and only points its own descriptor to it.
    """

    def __init__(self) -> None:
        logging.addLevelName(COMMANDS, "COMMAND")
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._file = os.fdopen(nowhere, "w", errors="backslashreplace")
        outputs = [logging.StreamHandler(stream) for stream in (sys.stderr, self._file)]
        logging.basicConfig(format=FORMAT, handlers=outputs)

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def level(self) -> int:
        return logging.getLogger().level

    def set_level(self, level: int) -> None:
        """One of LEVELS."""
        logging.getLogger().setLevel(level)

    def write_to(self, directory: Path) -> None:
        """From now on to FILE_NAME in this directory. Raises OSError: it goes on where it went."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(directory / FILE_NAME, flags, 0o600)
        self.follow(descriptor)

    def follow(self, descriptor: int) -> None:
        """Write to what another process has opened; takes the descriptor over."""
        os.dup2(descriptor, self._file.fileno(), inheritable=False)
        os.close(descriptor)
