"""`tcmu-runner overlay`: inspects, commits, empties or reassigns a filter's file while it is not in use."""

from __future__ import annotations

import argparse

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.filters import sidecar
from tcmu_runner.filters.overlay import Overlay
from tcmu_runner.units import format_size


def run(options: argparse.Namespace, clock: Clock = MACHINE) -> int:
    """Returns the exit status. Raises TcmuError or OSError to be shown."""
    if options.act == "adopt":
        was = sidecar.forget(options.file)
        print(f"it belonged to {was or 'no storage'}; now to the one that it is served over next")
        return 0
    overlay = Overlay.find(options.file, clock)
    try:
        held = sum(length for _, length, _ in overlay.pieces())
        if options.act == "discard":
            overlay.discard()
            overlay.disown()
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
