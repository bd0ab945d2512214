"""What `doctor` examines, and one thing that it finds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.cli.lio import save_directory
from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.settings import Coexistence


@dataclass(frozen=True, slots=True)
class Finding:
    """what: the subject, then the result. fix: commands for a root shell; empty if a person has to decide.
    fine: nothing is wrong."""

    what: str
    told: str
    fine: bool = True
    fix: tuple[str, ...] = ()


def output(*argv: str) -> str:
    """Its output. Raises OSError when it cannot be run, or fails without output."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout:
        raise OSError(f"{' '.join(argv)}: exit status {done.returncode}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Host:
    """The examined machine. devices, problems: call the daemon; raise TcmuError when it cannot be reached.
    saved: see lio.save_directory."""

    devices: Callable[[], list[DeviceView]]
    paths: Paths = SYSTEM
    lock: Path = Coexistence().lock
    run: Callable[..., str] = output
    problems: Callable[[], list[str]] = list
    saved: Callable[[], Path] = save_directory
