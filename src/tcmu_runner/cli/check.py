"""`tcmu-runner check`: does a handler keep the storage contract? For its author."""

from __future__ import annotations

import argparse

from tcmu_runner.cli.try_ import find_handler, size
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.conformance import check_class
from tcmu_runner.handler.stack import Recipe

HELP = "run the conformance kit on a handler"
EXAMPLES = """examples:
  tcmu-runner check ./my_handler.py
  tcmu-runner check file /var/tmp/scratch.img

The handler's storage is written to: give it one whose content does not matter.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check", help=HELP, description=HELP.capitalize() + ".", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("handler", help="a handler's subtype, or a Python file that defines one")
    parser.add_argument("config", nargs="?", default="", help="its configuration: what follows SUBTYPE/")
    parser.add_argument(
        "--size", type=size, default="8M", help="bytes of the LUN, or with K, M, G (default: 8M)"
    )
    parser.add_argument(
        "--block-size", type=int, default=512, metavar="N", help="512 (default) to 4096 bytes"
    )
    parser.add_argument("--persistent", action="store_true", help="what was flushed has to survive a close")
    parser.add_argument("--forgets", action="store_true", help="it stores nothing: do not compare contents")
    parser.set_defaults(run_subcommand=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; 0 when the handler keeps the contract, else 1."""
    registry, text = find_handler(options.handler, options.config)
    handler, parts = registry.find(text)
    if isinstance(handler, Recipe):
        raise ConfigError(
            f"{handler.subtype} has filters: check {handler.handler.subtype}, which is below them"
        )
    report = check_class(
        handler, parts.rest, size=options.size, block_size=options.block_size,
        persistent=options.persistent, forgets=options.forgets,
    )  # fmt: skip
    print(report)
    return 0 if report.ok else 1
