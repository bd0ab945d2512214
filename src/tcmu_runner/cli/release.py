"""`tcmu-runner release`: ends kernel waits for a daemon that has died. systemd runs it (ExecStopPost, and
with --stay in tcmu-runner-unlinking.service)."""

from __future__ import annotations

import argparse
import os

from tcmu_runner.guardian.release import release
from tcmu_runner.guardian.unlinking import stay
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.lock import DaemonLock
from tcmu_runner.settings.kept import coexistence


def run(options: argparse.Namespace) -> int:
    """Returns 0, also when there was nothing to do."""
    lock = coexistence().lock
    if options.stay:
        stay(Paths(), lambda: DaemonLock(lock))
        return 0
    if os.environ.get("SERVICE_RESULT") == "success":  # systemd.exec(5): the daemon has ended in order
        return 0
    blocked = release(Paths(), DaemonLock(lock), by_hand="SERVICE_RESULT" not in os.environ)
    print(f"{len(blocked)} devices wait for a daemon" + (": " + ", ".join(blocked) if blocked else ""))
    return 0
