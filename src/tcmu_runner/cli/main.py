"""`tcmu-runner`: without a subcommand it is the daemon, with the options of the C daemon."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper

from tcmu_runner.cli.arguments import parser
from tcmu_runner.cli.hints import in_options
from tcmu_runner.errors import TcmuError


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with one line on standard error that says what to do."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal's encoding may lack what a name has
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    module, _, function = options.run_subcommand.partition(":")
    try:
        run: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TcmuError, OSError) as error:
        text = in_options(str(error)) if "block_size" in options else str(error)
        print(f"tcmu-runner: {text}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
