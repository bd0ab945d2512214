"""`tcmu-runner`: without a subcommand it is the daemon, with the options of the C daemon."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from tcmu_runner import daemon, settings
from tcmu_runner.cli import check, overlay, release, try_
from tcmu_runner.configuration import LOG_DIRECTORY, Options
from tcmu_runner.errors import TcmuError
from tcmu_runner.logs import FILE_NAME

OPEN_FILES = range(65536, 1048577)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with one line on standard error that says what to do."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run_subcommand
    try:
        return run(options)
    except (TcmuError, OSError) as error:
        print(f"tcmu-runner: {error}", file=sys.stderr)
        return 1


def _run_daemon(options: argparse.Namespace) -> int:
    _raise_open_files(options.nofile)
    return daemon.run(
        Options(
            debug=options.debug,
            log_dir=options.tcmu_log_dir,
            handler_path=options.handler_path,
            settings=options.settings,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcmu-runner",
        description="Serves the userspace-backed LUNs (TCMU) of the Linux SCSI target from Python handlers.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"tcmu-runner {version('tcmu-runner')}")
    parser.add_argument(
        "-d", "--debug", action="store_true", help="log what is of interest to developers, and each command"
    )
    parser.add_argument(
        "-f", "--nofile", type=_open_files, metavar="N", help="how many files may be open, 65536 to 1048576"
    )
    parser.add_argument(
        "--handler-path", type=Path, metavar="DIR", help="look for handlers (*.py) in DIR, too"
    )
    parser.add_argument(
        "-l",
        "--tcmu-log-dir",
        type=Path,
        metavar="DIR",
        help=f"log to {FILE_NAME} in DIR (default: {LOG_DIRECTORY})",
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help=f"settings instead of those in {settings.DEFAULT}"
    )
    parser.set_defaults(run_subcommand=_run_daemon)
    subcommands = parser.add_subparsers(title="subcommands", metavar="")
    for module in (try_, release, check, overlay):
        module.add_parser(subcommands)
    return parser


def _open_files(text: str) -> int:
    if not text.isdigit() or int(text) not in OPEN_FILES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {OPEN_FILES[0]} to {OPEN_FILES[-1]}")
    return int(text)


def _raise_open_files(limit: int | None) -> None:
    """Each device takes two descriptors of the supervisor: by default as many as the system allows."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = allowed if limit is None else limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, allowed)))


if __name__ == "__main__":
    sys.exit(main())
