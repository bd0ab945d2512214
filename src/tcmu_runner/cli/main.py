"""`tcmu-runner`: without a subcommand it runs the daemon, with the options of the C daemon."""

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
    """The exit status: 0, or 1 after one line on standard error with the error and the way out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may have characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    module, _, function = options.run_subcommand.partition(":")
    try:
        run: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TcmuError, OSError) as error:
        text = in_options(str(error)) if "block_size" in options else str(error)
        print(f"tcmu-runner: {text}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
