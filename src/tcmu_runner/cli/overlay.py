"""`tcmu-runner overlay`: what the filter `cow` has kept of a device that is not served."""

from __future__ import annotations

import argparse
from pathlib import Path

from tcmu_runner.filters.overlay import Overlay
from tcmu_runner.units import format_size

HELP = "show an overlay of the filter cow, empty it, or have it committed"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("overlay", help=HELP, description=HELP.capitalize() + ".")
    parser.add_argument("file", type=Path, help="the overlay: DIRECTORY/user_0%%2Fvol0.cow for user_0/vol0")
    parser.add_argument(
        "act", nargs="?", choices=["show", "discard", "commit"], default="show",
        help="show: how much it holds (the default). discard: all of it is forgotten. commit: it is written "
        "to the storage below when the device is served next",
    )  # fmt: skip
    parser.set_defaults(run_subcommand=run)


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises TcmuError or OSError to be shown."""
    overlay = Overlay.find(options.file)
    try:
        held = sum(length for _, length, _ in overlay.pieces())
        if options.act == "discard":
            overlay.discard()
            print(f"{format_size(held)} are discarded")
        elif options.act == "commit":
            overlay.want_commit()
            print(f"{format_size(held)} will be written to the storage below when the device is served next")
        else:
            waits = ", to be committed" if overlay.commit_wanted else ""
            space = format_size(overlay.space().used)
            print(f"{format_size(held)} of {format_size(overlay.size)} differ{waits}; they take {space}")
    finally:
        overlay.close()
    return 0
