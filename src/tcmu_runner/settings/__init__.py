"""Settings files, as dataclasses. What a running daemon does with them is in supervisor.live_settings.

kept              the settings of the last good start: a start that finds broken ones goes on with those
lines             where a setting stands in a TOML file, and errors that say so
reference         the page of the documentation, from docstrings
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
