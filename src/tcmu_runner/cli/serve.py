"""The daemon as the command line starts it."""

from __future__ import annotations

import argparse
import resource

from tcmu_runner import daemon
from tcmu_runner.supervisor.live_settings import Options


def run(options: argparse.Namespace) -> int:
    """Serves until a signal ends it. Raises TcmuError or OSError to be shown."""
    _raise_open_files(options.nofile)
    return daemon.run(Options(options.debug, options.tcmu_log_dir, options.handler_path, options.settings))


def _raise_open_files(limit: int | None) -> None:
    """Each device takes two descriptors of the supervisor. limit None: as many as the system allows."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = allowed if limit is None else limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, allowed)))
