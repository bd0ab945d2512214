"""Settings files, as dataclasses. supervisor.live_settings applies them in a running daemon.

kept              the settings of the last good start, for a start that finds broken ones
lines             line numbers of settings in a TOML file, and errors that name them
reference         generates the page of the documentation from docstrings
stacks            stacks: a handler with filters above it
tcmu_conf         /etc/tcmu/tcmu.conf, the file of the C daemon
tcmu_runner_toml  /etc/tcmu/tcmu-runner.toml
watch             notices that a file has changed
"""

from tcmu_runner.settings.stacks import StackSettings
from tcmu_runner.settings.tcmu_runner_toml import (
    Coexistence,
    Handlers,
    Metrics,
    Settings,
    Workers,
    load,
    located,
    parse,
    read,
)

__all__ = [
    "Coexistence",
    "Handlers",
    "Metrics",
    "Settings",
    "StackSettings",
    "Workers",
    "load",
    "located",
    "parse",
    "read",
]
