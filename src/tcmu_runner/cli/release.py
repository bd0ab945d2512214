"""`tcmu-runner release`: tidies up after a daemon that has died. systemd runs it (ExecStopPost)."""

from __future__ import annotations

import argparse
import os

from tcmu_runner.kernel.lock import DaemonLock
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.release import release
from tcmu_runner.settings.kept import coexistence


def run(_options: argparse.Namespace) -> int:
    """0: there is nothing (more) to be done."""
    if os.environ.get("SERVICE_RESULT") == "success":  # systemd.exec(5): the daemon has ended in order
        return 0
    blocked = release(Paths(), DaemonLock(coexistence().lock))
    print(f"{len(blocked)} devices wait for a daemon" + (": " + ", ".join(blocked) if blocked else ""))
    return 0
